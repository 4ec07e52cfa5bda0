/** What the components around the terminal show of a `Viewer`. Only the `Viewer` changes it. */
import type { StreamName } from '../api/types';
import type { Replay } from './replay.svelte';
import type { GutterRow } from './visible-rows';

export class ViewerState {
  stream = $state<StreamName | null>(null);
  wrap = $state(true);
  readAloud = $state(false);
  following = $state(true);
  /** total bytes of output, as far as known */
  size = $state(0);
  complete = $state(false);
  /** whether the window grows with the live output */
  attached = $state(true);
  /** whether the end of all output is visible */
  atEnd = $state(true);
  loading = $state(false);
  errorText = $state('');
  /** bytes that were skipped to keep up with the command */
  skipped = $state(0);
  /** position of the line that a link marks */
  target = $state<number | null>(null);
  rows = $state.raw<GutterRow[]>([]);
  cellHeight = $state(0);
  /** range of positions that the terminal has */
  first = $state(0);
  last = $state(0);
  matches = $state<{ index: number; count: number } | null>(null);
  replay = $state.raw<Replay | null>(null);
}
