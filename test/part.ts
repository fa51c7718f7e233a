/**
 * All of the longest tests together take hours. So each run takes one of four parts, another one each day, and every
 * part has something of every kind. TSRKE_PART=all: everything; 0 to 3: that one, as where a run failed.
 */
const parts = 4;
const day = Math.floor(Date.now() / 86_400_000);

/** As environment variable: processes of one run take the same part, also past midnight. */
const asked = (process.env['TSRKE_PART'] ??= String(day % parts));
if (!/^(all|[0-3])$/.test(asked))
  throw new Error(`TSRKE_PART is ${asked}, and can be all or 0 to ${parts - 1}`);

export const takesAll = asked === 'all';

/** For seeds: other tries in each part. */
export const partNumber = takesAll ? 0 : Number(asked);

/** Whether a thing of a list belongs to this run. */
export const inPart = (index: number): boolean => takesAll || index % parts === partNumber;

/** How many of so many random tries. */
export const shareOf = (count: number): number => (takesAll ? count : Math.ceil(count / parts));

export const describePart = takesAll
  ? 'the long tests: all of them'
  : `the long tests: part ${asked} of 0 to ${parts - 1}; TSRKE_PART=all runs all of them`;
