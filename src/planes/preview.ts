/** Stages as a plan tells them: no contents of files, no environment. Pure. */
import type { PlannedStage } from '../encryption/plan-document.ts';
import { describeMove, type Stage } from './plan.ts';

/** `objects`: what is to be told to Kubernetes, a line each. */
export function previewOf(stages: readonly Stage[], objects: readonly string[]): PlannedStage[] {
  const last = { title: 'objects in Kubernetes', moves: objects.map((does) => ({ does })) };
  return [
    ...stages.map(({ title, lanes }) => ({
      title,
      moves: lanes.flat().map((move) => ({ node: move.node, does: describeMove(move) })),
    })),
    ...(objects.length === 0 ? [] : [last]),
  ];
}
