/** Where things stand in a YAML text: `load` and the syntax tree of js-yaml carry no positions, its events do. */
import { EVENT_ID, getScalarValue } from 'js-yaml';
import type { Event } from 'js-yaml';

/** One key of a mapping or item of a list. */
interface Place {
  /** Offset into the text, of the key or of the item's beginning. */
  readonly offset: number;
  /** What is inside, by key or by index; shared between an anchor and its aliases. */
  readonly members: Map<string, Place>;
}

/** The places of the first document. `events` are those of `text`. */
export function placesOf(text: string, events: readonly Event[]): Place {
  const anchors = new Map<string, Map<string, Place>>();
  let at = 0;

  const nameOf = (event: { anchorStart: number; anchorEnd: number }) =>
    event.anchorStart < 0 ? undefined : text.slice(event.anchorStart, event.anchorEnd);

  /** Reads the value that begins at `at`; `offset` is where its key stands. */
  function value(offset?: number): Place {
    const event = events[at++];
    switch (event?.type) {
      case EVENT_ID.SCALAR:
        return { offset: offset ?? event.valueStart, members: new Map() };
      case EVENT_ID.ALIAS: {
        const members = anchors.get(nameOf(event) ?? '') ?? new Map<string, Place>();
        return { offset: offset ?? event.anchorStart, members };
      }
      case EVENT_ID.SEQUENCE:
      case EVENT_ID.MAPPING: {
        const members = new Map<string, Place>();
        const name = nameOf(event);
        if (name !== undefined) anchors.set(name, members);
        if (event.type === EVENT_ID.SEQUENCE) items(members);
        else pairs(members);
        return { offset: offset ?? event.start, members };
      }
      default:
        return { offset: offset ?? 0, members: new Map() };
    }
  }

  function items(members: Map<string, Place>): void {
    while (!ended()) members.set(String(members.size), value());
  }

  function pairs(members: Map<string, Place>): void {
    const merged: Place[] = [];
    while (!ended()) {
      const key = events[at];
      const place = value();
      const name = key?.type === EVENT_ID.SCALAR ? getScalarValue(text, key) : '';
      const member = value(place.offset);
      if (name === '<<') merged.push(member);
      else members.set(name, member);
    }
    // Keys written here win over merged ones (YAML 1.1, `<<`).
    for (const member of merged) {
      for (const [name, place] of member.members) {
        const inner = /^\d+$/.test(name) ? place.members : new Map([[name, place]]);
        for (const [key, found] of inner) if (!members.has(key)) members.set(key, found);
      }
    }
  }

  function ended(): boolean {
    if (at < events.length && events[at]?.type !== EVENT_ID.POP) return false;
    at += 1;
    return true;
  }

  at = 1; // behind the beginning of the document
  return value();
}

/** The offset of what `path` names, or of the nearest thing around it that is there. */
export function offsetOf(root: Place, path: readonly (string | number)[]): number {
  let place = root;
  for (const part of path) {
    const member = place.members.get(String(part));
    if (member === undefined) break;
    place = member;
  }
  return place.offset;
}
