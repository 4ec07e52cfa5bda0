/** Durations and sizes as people type them: `90`, `90s`, `5m`, `2h`; `500 MB`, `10 GiB`, `none`. */

const UNIT_SECONDS: Record<string, number> = { '': 1, s: 1, m: 60, h: 3600, d: 86_400 };

export const DURATION_HINT = 'Write a duration as 90, 90s, 5m or 2h.';
export const SIZE_HINT = 'Write a size as 1000, 500 MB or 10 GiB, or none.';

/** Return a duration in seconds, or null if the text is not a duration. */
export function parseDuration(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?|\.\d+)\s*([smhd]?)$/.exec(text.trim());
  if (!match) return null;
  return Number(match[1]) * UNIT_SECONDS[match[2]!]!;
}

/** Return a duration as text that `parseDuration` reads: `90s`, `5m`, `2h`. */
export function durationText(seconds: number): string {
  if (seconds > 0 && seconds % 3600 === 0) return `${seconds / 3600}h`;
  if (seconds > 0 && seconds % 60 === 0) return `${seconds / 60}m`;
  return `${seconds}s`;
}

const BINARY_UNITS = ['KiB', 'MiB', 'GiB', 'TiB'];
const DECIMAL_UNITS = ['kB', 'MB', 'GB', 'TB'];

/** Return a size in bytes, null for `none`, or undefined if the text is not a size. */
export function parseSize(text: string): number | null | undefined {
  const trimmed = text.trim();
  if (trimmed.toLowerCase() === 'none') return null;
  const match = /^(\d+(?:\.\d+)?)\s*(?:([kmgt]?)(ib|b)?)$/i.exec(trimmed);
  if (!match) return undefined;
  const [, number, prefix = '', suffix = ''] = match;
  const power = prefix ? 'kmgt'.indexOf(prefix.toLowerCase()) + 1 : 0;
  if (!power && suffix.toLowerCase() === 'ib') return undefined;
  const base = suffix.toLowerCase() === 'b' ? 1000 : 1024;
  return Math.round(Number(number) * base ** power);
}

/** Return a size as text that `parseSize` reads and that means exactly this number of bytes. */
export function sizeText(bytes: number | null): string {
  if (bytes === null) return 'none';
  for (const [base, units] of [[1024, BINARY_UNITS], [1000, DECIMAL_UNITS]] as const) {
    for (let power = units.length; power > 0; power--) {
      if (bytes > 0 && bytes % base ** power === 0) return `${bytes / base ** power} ${units[power - 1]}`;
    }
  }
  return String(bytes);
}
