/** Names for what the service speaks of; the shapes come from its OpenAPI document. */
import type { components } from './schema';

type Schemas = components['schemas'];

export type Command = Schemas['Command'];
/** A command in a list: `script_preview` instead of `script`. */
export type CommandItem = Schemas['CommandItem'];
/** A command in an event: without its script. */
export type CommandEvent = Schemas['CommandEvent'];
export type CommandPage = Schemas['CommandPage'];
export type Status = Schemas['Status'];
export type Host = Schemas['Host'];
export type HostList = Schemas['HostList'];
export type OutputEvent = Schemas['OutputEvent'];
export type ProblemBody = Schemas['Problem'];
export type SubmitBody = Partial<Schemas['SubmitBody']> & { script: string };
export type StreamName = OutputEvent['stream'];
/** What all forms of a command have. */
export type CommandFacts = Omit<Command, 'script'>;

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
