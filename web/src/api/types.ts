/** Names for the objects of the API. Their shapes come from the service's OpenAPI document. */
import type { components } from './schema';

type Schemas = components['schemas'];

export type Command = Schemas['Command'];
/** A command in a list: `script_preview` instead of `script`. */
export type CommandItem = Schemas['CommandItem'];
/** A command in an event: without its script. */
export type CommandEvent = Schemas['CommandEvent'];
/** One page of a list of commands. */
export type CommandList = Schemas['CommandPage'];
export type Status = Schemas['Status'];
export type Host = Schemas['Host'];
export type HostList = Schemas['HostList'];
export type OutputEvent = Schemas['OutputEvent'];
export type ProblemBody = Schemas['Problem'];
export type SubmitBody = Partial<Schemas['SubmitBody']> & { script: string };
export type StreamName = OutputEvent['stream'];
/** The fields that all forms of a command have. */
export type CommandFields = Omit<Command, 'script'>;

/** Bytes of one stream that the service read at one time. */
export interface Chunk {
  /** position of the first byte in the merged output */
  position: number;
  stream: StreamName;
  /** when the service read the bytes, in milliseconds since 1970 */
  time: number;
  bytes: Uint8Array;
}

/** Return the position after a chunk's last byte. */
export function endOf(chunk: Chunk): number {
  return chunk.position + chunk.bytes.length;
}

export const STATUSES: readonly Status[] = [
  'queued',
  'running',
  'stopping',
  'succeeded',
  'failed',
  'stopped',
  'timed_out',
  'lost',
];

const FINAL: ReadonlySet<Status> = new Set(['succeeded', 'failed', 'stopped', 'timed_out', 'lost']);

export function isFinal(status: Status): boolean {
  return FINAL.has(status);
}
