/**
 * Durations and sizes as people type them, in the notation of the command line: `90`, `90s`, `5m`,
 * `2h`, `1h30m`; `4096`, `10M`, `10 GiB`, `none`.
 */

const UNIT_SECONDS: Record<string, number> = { d: 86_400, h: 3600, m: 60, s: 1 };

export const DURATION_HINT = 'Write a duration as 90, 90s, 5m or 2h.';
export const FIXED_SIZE_HINT = 'Write a size as 4096, 512K, 10M or 2G.';
export const SIZE_HINT = 'Write a size as 4096, 512K, 10M or 2G, or none.';

/** Return a duration in seconds, or null if the text is not a duration. */
export function parseDuration(text: string): number | null {
  const typed = text.trim().toLowerCase();
  if (/^(\d+(\.\d*)?|\.\d+)$/.test(typed)) return Number(typed);
  if (!/^((\d+(\.\d+)?|\.\d+)\s*[smhd])+$/.test(typed)) return null;
  let seconds = 0;
  for (const [, number, unit] of typed.matchAll(/([\d.]+)\s*([smhd])/g)) seconds += Number(number) * UNIT_SECONDS[unit!]!;
  return seconds;
}

/** Return a duration as text that `parseDuration` reads: `90s`, `5m`, `2h`. */
export function durationText(seconds: number): string {
  if (seconds > 0 && seconds % 3600 === 0) return `${seconds / 3600}h`;
  if (seconds > 0 && seconds % 60 === 0) return `${seconds / 60}m`;
  return `${seconds}s`;
}

const SIZE_UNITS = ['', 'KiB', 'MiB', 'GiB', 'TiB'];

/** Return a size in bytes, null for `none`, or undefined if the text is not a size. K is 1024 bytes. */
export function parseSize(text: string): number | null | undefined {
  const typed = text.trim().toLowerCase();
  if (typed === 'none') return null;
  const match = /^(\d+(?:\.\d+)?) ?([kmgt]?)(?:i?b)?$/.exec(typed);
  if (!match) return undefined;
  return Math.floor(Number(match[1]) * 1024 ** ' kmgt'.indexOf(match[2] || ' '));
}

/** Return a size as text that `parseSize` reads and that means exactly this number of bytes. */
export function sizeText(bytes: number | null): string {
  if (bytes === null) return 'none';
  let power = SIZE_UNITS.length - 1;
  while (power > 0 && (bytes === 0 || bytes % 1024 ** power)) power--;
  return power ? `${bytes / 1024 ** power} ${SIZE_UNITS[power]}` : String(bytes);
}
