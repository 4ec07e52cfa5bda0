/** Formats times, durations and sizes as text. */

const twoDigits = (value: number): string => String(value).padStart(2, '0');

/** Return a duration that is still running: `02:14`, `1:02:14`, `3 d 01:02:14`. */
export function formatElapsed(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const days = Math.floor(seconds / 86_400);
  const hours = Math.floor(seconds / 3600) % 24;
  const rest = `${twoDigits(Math.floor(seconds / 60) % 60)}:${twoDigits(seconds % 60)}`;
  if (days) return `${days} d ${twoDigits(hours)}:${rest}`;
  return hours ? `${hours}:${rest}` : rest;
}

/** Return a finished duration: `41 s`, `1.2 s`, `340 ms`, `4 min 10 s`, `2 h 5 min`. */
export function formatDuration(milliseconds: number): string {
  const ms = Math.max(0, milliseconds);
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds % 60 ? `${minutes} min ${seconds % 60} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Return how long ago something was: `just now`, `3 min ago`, `2 h ago`, `5 d ago`. */
export function formatAgo(milliseconds: number): string {
  const seconds = Math.floor(milliseconds / 1000);
  if (seconds < 10) return 'just now';
  if (seconds < 60) return `${Math.floor(seconds / 10) * 10} s ago`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ago`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ago`;
  return `${Math.floor(hours / 24)} d ago`;
}

/** Return date, time and zone, in the reader's time zone or UTC. `time` is in ms since 1970. */
export function formatDateTime(time: number, utc = false): string {
  const at = new Date(time);
  const zone = utc ? { timeZone: 'UTC' } : {};
  const text = at.toLocaleString('sv-SE', {
    dateStyle: 'short',
    timeStyle: 'medium',
    ...zone,
  });
  const name = utc
    ? 'UTC'
    : (new Intl.DateTimeFormat('en', { timeZoneName: 'short' })
        .formatToParts(at)
        .find((part) => part.type === 'timeZoneName')?.value ?? '');
  return `${text} ${name}`.trim();
}

/** Return the time of day to the millisecond, in the reader's time zone or UTC. */
export function formatTimeOfDay(time: number, utc = false): string {
  const at = new Date(time);
  const [hours, minutes, seconds, ms] = utc
    ? [at.getUTCHours(), at.getUTCMinutes(), at.getUTCSeconds(), at.getUTCMilliseconds()]
    : [at.getHours(), at.getMinutes(), at.getSeconds(), at.getMilliseconds()];
  return `${twoDigits(hours)}:${twoDigits(minutes)}:${twoDigits(seconds)}.${String(ms).padStart(3, '0')}`;
}

/** Return an RFC 3339 time in milliseconds since 1970; null stays null. */
export function parseTime(text: string | null): number | null {
  return text === null ? null : Date.parse(text);
}

/** Return a size in decimal units: `0 B`, `812 B`, `48.2 MB`. */
export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const units = ['kB', 'MB', 'GB', 'TB', 'PB'];
  let value = bytes;
  let unit = '';
  for (unit of units) {
    value /= 1000;
    if (value < 999.5) break;
  }
  return `${value < 99.95 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}
