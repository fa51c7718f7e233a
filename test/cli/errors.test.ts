/** What the user reads when a run fails. */
import { describe, expect, test } from 'vitest';
import { errorsOf, exitCodeOf, renderErrors } from '../../src/cli/errors.ts';
import { plainReport } from '../../src/cli/report.ts';
import { TsrkeError } from '../../src/errors.ts';

const notReady = new TsrkeError('APISERVER_NOT_READY', 'kube-apiserver did not come up', {
  node: 'h2',
  cause: new Error('etcd failed'),
  details: ['  E1125 no such file', '  F1125 exiting'],
  next: 'remove the cause, then run the same command again',
});
const locked = new TsrkeError('LOCKED', 'the state is locked');
const unreachable = (node: string) => new TsrkeError('NODE_UNREACHABLE', 'cannot be reached', { node });

test('an error says what happened, where, the details, the cause and what to do next', () => {
  expect(renderErrors(notReady)).toBe(
    [
      'h2: kube-apiserver did not come up (APISERVER_NOT_READY)',
      '  E1125 no such file',
      '  F1125 exiting',
      'cause: etcd failed',
      'next: remove the cause, then run the same command again',
    ].join('\n'),
  );
});

test('a detail that is the message itself is not said twice', () => {
  const one = 'cluster.yml:3:1: unknown key `foo`';
  expect(renderErrors(new TsrkeError('CONFIG_INVALID', one, { details: [one] }))).toBe(
    `${one} (CONFIG_INVALID)`,
  );
});

test('several nodes that fail stay several errors', () => {
  const all = new AggregateError([unreachable('h1'), new AggregateError([unreachable('h2'), notReady])]);
  expect(renderErrors(all).split('\n\n')).toEqual([
    'h1: cannot be reached (NODE_UNREACHABLE)',
    'h2: cannot be reached (NODE_UNREACHABLE)',
    renderErrors(notReady),
  ]);
  expect(errorsOf(all)).toHaveLength(3);
});

test('anything else is a bug and shows its stack', () => {
  const text = renderErrors(new RangeError('no'));
  expect(text).toMatch(/^RangeError: no\n {4}at /);
  expect(text).toMatch(/this is a bug of tsrke/);
});

test.each<[string, unknown, boolean, number]>([
  ['the code of the one error', locked, false, 4],
  ['1 among several', new AggregateError([locked, notReady]), false, 1],
  ['the first one where none is 1', new AggregateError([locked, locked]), false, 4],
  ['1 for a bug', new TypeError('no'), false, 1],
  ['130 when interrupted, whatever else went wrong', notReady, true, 130],
])('exit code: %s', (_, error, isInterrupted, code) => {
  expect(exitCodeOf(error, isInterrupted)).toBe(code);
});

describe('how far the run had come', () => {
  const fails = () => Promise.reject(notReady);
  const nothing = () => Promise.resolve();

  test('is told after the error: done, failed and not started, down to the node', async () => {
    const report = plainReport({ write: () => undefined, debug: false });
    await report.task('connect to 3 nodes', nothing);
    const push = report.task('write with the new key', async (task) => {
      task.expects?.(['h1', 'h2', 'h3']);
      await report.task('h1', (inner) => {
        inner.done('h1 is ready');
        return nothing();
      });
      await report.task('h2', fails);
    });
    await expect(push).rejects.toBe(notReady);
    expect(renderErrors(locked, report.steps()).split('\n\n')).toEqual([
      'the state is locked (LOCKED)',
      [
        'done:        connect to 3 nodes',
        '             write with the new key: h1 is ready',
        'failed:      write with the new key: h2',
        'not started: write with the new key: h3',
      ].join('\n'),
    ]);
  });

  test('is not told of a run that had not come anywhere', async () => {
    const report = plainReport({ write: () => undefined, debug: false });
    await expect(report.task('connect to 3 nodes', fails)).rejects.toBe(notReady);
    expect(renderErrors(locked, report.steps())).toBe('the state is locked (LOCKED)');
  });
});
