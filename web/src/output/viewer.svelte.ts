/**
 * What a reader sees of one command's output, and the ways to move in it.
 *
 * `LiveOutput` has the newest bytes. The window is the range on the screen. Attached to the live
 * output, the window grows with it. Elsewhere it stands still, and earlier and later output is read
 * from the service by range.
 */
import { readRange } from '../api/events';
import { isTemporary, messageOf } from '../api/problem';
import { sleep } from '../api/retry';
import type { Chunk, CommandEvent, StreamName } from '../api/types';
import { reportLost, reportRestored } from '../app/connection.svelte';
import { OutputWindow, partFrom } from './chunks';
import { LiveOutput, PART_BYTES } from './live-output';
import { Replay } from './replay.svelte';
import { DoubleBuffer } from './terminal/double-buffer';
import { matchColours } from './terminal/palette';
import { maxLines, type RowOrigin, type Screen } from './terminal/screen';

const MAX_WINDOW_BYTES = 6 << 20;
/** Reading pauses while more than this waits to be drawn. */
const MAX_BACKLOG_BYTES = 192 << 10;
/** How many parts are read at most to find output of the stream that is shown. */
const MAX_PARTS_OF_STREAM = 16;
/** Within this distance the first whole line is looked for. */
const FIRST_LINE_BYTES = 16 << 10;

export interface GutterRow extends RowOrigin {
  y: number;
  first: boolean;
}

export class Viewer {
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

  readonly id: string;
  readonly #onCommandChanged: (command: CommandEvent) => void;
  readonly #closed = new AbortController();
  readonly #resize: ResizeObserver;
  readonly #screens: DoubleBuffer;
  readonly #live: LiveOutput;
  #window = new OutputWindow(0);
  #moving = new AbortController();
  #dark = true;
  #refreshing = false;
  #lastY = 0;
  #searchText = '';
  /** where the first whole line starts; null until known */
  #shownFrom: number | null = null;

  constructor(id: string, host: HTMLElement, onCommandChanged: (command: CommandEvent) => void) {
    this.id = id;
    this.#onCommandChanged = onCommandChanged;
    this.#screens = new DoubleBuffer(
      host,
      () => ({
        wrap: this.wrap,
        dark: this.#dark,
        stream: this.stream,
        readAloud: this.readAloud,
      }),
      (screen) => this.#screenShown(screen),
    );
    this.#live = new LiveOutput(id, {
      commandChanged: (command, ended) => this.#commandChanged(command, ended),
      outputAdded: (added) => this.#outputAdded(added),
      outputSkipped: (from, to, size) => this.#outputSkipped(from, to, size),
      failed: (reason) => (this.errorText = reason),
    });
    let timer: ReturnType<typeof setTimeout> | undefined;
    this.#resize = new ResizeObserver(() => {
      clearTimeout(timer);
      timer = setTimeout(() => this.#fit(), 80);
    });
    this.#resize.observe(host);
  }

  get #screen(): Screen | null {
    return this.#screens.current;
  }

  get #liveWindow(): OutputWindow {
    return this.#live.window;
  }

  /**
   * Show the end of the output, or the line with a position, and follow the command.
   *
   * @param size - bytes of output that the command had when it was loaded.
   */
  open(size: number, position: number | null, dark: boolean): void {
    this.#dark = dark;
    this.size = size;
    const start = Math.max(0, size - PART_BYTES);
    this.#live.follow(start);
    if (position !== null && position < start) {
      this.attached = false;
      void this.toPosition(position);
    } else {
      this.#window = new OutputWindow(start);
      if (position !== null) this.#setTarget(position);
      if (position === null) void this.#rebuild('end');
      else void this.#scrollWhenRead(position);
    }
  }

  /** Scroll to a position near the end as soon as it has been read. */
  async #scrollWhenRead(position: number): Promise<void> {
    this.following = false;
    await this.#rebuild('same');
    while (!this.#closed.signal.aborted && this.target === position) {
      await this.#screen?.waitUntilDrawn();
      if (this.#window.end > position || this.complete) return this.#scrollToPosition(position, true);
      await sleep(50, this.#closed.signal);
    }
  }

  close(): void {
    this.#closed.abort();
    this.#live.close();
    this.#moving.abort();
    this.replay?.close();
    this.#resize.disconnect();
    this.#screens.close();
  }

  // Live output

  #commandChanged(command: CommandEvent, ended: boolean): void {
    if (ended) {
      this.complete = true;
      if (this.attached && !this.replay) this.#write(null);
    }
    this.#onCommandChanged(command);
  }

  async #outputAdded(added: Chunk): Promise<void> {
    this.size = Math.max(this.size, this.#liveWindow.end);
    if (!this.attached || this.replay) return;
    this.#append(added);
    // A terminal that cannot keep up slows the reading down, and with it the service.
    await this.#screen?.waitForBacklog(MAX_BACKLOG_BYTES);
  }

  #outputSkipped(from: number, to: number, size: number): void {
    this.size = size;
    if (this.attached && this.following && !this.replay) {
      this.skipped += to - from;
      this.#window = new OutputWindow(to);
      void this.#rebuild('end');
    } else this.attached = false;
  }

  #append(chunk: Chunk): void {
    const added = this.#window.append(chunk);
    if (!added) return;
    this.#write(added);
    const screen = this.#screen;
    if (!screen) return;
    const { baseY, viewportY } = screen.terminal.buffer.active;
    // A growing window would push a reader's lines out at the top, so it stops growing.
    if (!this.following && baseY - viewportY > maxLines(screen.options.cols) / 2) {
      this.attached = false;
    }
    if (this.#window.bytes > MAX_WINDOW_BYTES) this.#dropTrimmed();
  }

  /**
   * Write to the screen, starting with a whole line. Until the first whole line is known, nothing is
   * written.
   *
   * @param chunk - null: write what waits, because the output is complete.
   */
  #write(chunk: Chunk | null): void {
    const started = this.#shownFrom !== null;
    if (!started) {
      const from = this.#window.firstWholeLine(FIRST_LINE_BYTES);
      const unknown = from === this.#window.start && from > 0 && this.#window.bytes < FIRST_LINE_BYTES;
      if (unknown && !this.complete) return;
      this.#shownFrom = from;
    }
    for (const part of started ? (chunk ? [chunk] : []) : this.#window.chunks) {
      const shown = partFrom(part, this.#shownFrom ?? 0);
      if (!shown) continue;
      this.#screens.write(shown);
    }
  }

  /** Drop the output that has left the terminal at the top. */
  #dropTrimmed(): void {
    const first = this.#screen?.firstPosition;
    if (first != null) this.#window.dropBefore(Math.min(first, this.#window.end));
  }

  // Moving

  async toEnd(): Promise<void> {
    this.#setTarget(null);
    if (this.attached && this.#window.end >= this.#liveWindow.end) {
      this.#screen?.terminal.scrollToBottom();
      this.following = true;
      return this.#refresh();
    }
    this.#moving.abort();
    this.#window = new OutputWindow(this.#liveWindow.start);
    for (const chunk of this.#liveWindow.chunks) this.#window.append(chunk);
    this.attached = true;
    await this.#rebuild('end');
  }

  async toStart(): Promise<void> {
    this.#setTarget(null);
    await this.#showPosition(0, false);
  }

  /** Show the line with a position and mark it. */
  async toPosition(position: number): Promise<void> {
    this.#setTarget(position);
    await this.#showPosition(position, true);
  }

  /** Show a position without marking its line. */
  async seek(position: number): Promise<void> {
    this.#setTarget(null);
    await this.#showPosition(position, false);
  }

  #setTarget(target: number | null): void {
    this.target = target;
    this.following = target === null && this.following;
  }

  async #showPosition(position: number, centred: boolean): Promise<void> {
    const at = Math.max(0, Math.min(position, this.size));
    this.following = false;
    const isLoaded = this.#screen && at >= this.first && at < this.last;
    if (isLoaded) return this.#scrollToPosition(at, centred);
    await this.#runExclusive(async (signal) => {
      const from = Math.max(0, at - PART_BYTES / 2);
      const to = Math.min(this.size, at + PART_BYTES);
      const chunks = await readRange(this.id, from, to, signal);
      const shown = new OutputWindow(from);
      for (const chunk of chunks) shown.append(chunk);
      if (shown.end < this.#liveWindow.start) shown.dropUnfinishedLine();
      this.#window = shown;
      this.attached = false;
      this.#clip(at);
      this.#joinLive();
      await this.#rebuild(at, centred);
    });
  }

  /** Read the output before the window. The top line stays where it is. */
  async loadEarlier(): Promise<void> {
    const screen = this.#screen;
    if (!screen || this.loading || this.replay || this.first <= 0) return;
    await this.#runExclusive(async (signal) => {
      const top = this.rows.find((row) => row.first)?.position ?? this.first;
      this.#dropTrimmed();
      for (let part = 0; part < (this.stream ? MAX_PARTS_OF_STREAM : 1); part++) {
        const start = this.#window.start;
        const chunks = await readRange(this.id, Math.max(0, start - PART_BYTES), start, signal);
        this.#window.prepend(chunks);
        if (this.#window.start === 0 || chunks.some((chunk) => chunk.stream === this.stream)) break;
      }
      this.#clip(top);
      await this.#rebuild('same');
    });
  }

  /** Read the output after the window, if the window does not reach the end. */
  async loadLater(): Promise<void> {
    if (this.attached || this.loading || this.replay || !this.#screen) return;
    if (this.#joinLive()) return;
    await this.#runExclusive(async (signal) => {
      // A terminal that is scrolled to its end would follow what is written to it.
      const wasAtEnd = this.#screen?.atEnd === true;
      if (wasAtEnd) this.#screen?.terminal.scrollLines(-1);
      const { end } = this.#window;
      const to = Math.min(end + PART_BYTES, this.#liveWindow.start);
      const more = new OutputWindow(end);
      for (const chunk of await readRange(this.id, end, to, signal)) more.append(chunk);
      if (to < this.#liveWindow.start) more.dropUnfinishedLine();
      for (const chunk of more.chunks) this.#append(chunk);
      this.#joinLive();
      this.#dropTrimmed();
      await this.#screen?.waitUntilDrawn();
      if (wasAtEnd) this.#screen?.terminal.scrollLines(1);
    });
  }

  /** Attach the window to the live output, if they touch. Return whether they do. */
  #joinLive(): boolean {
    if (this.#window.end < this.#liveWindow.start) return false;
    this.attached = true;
    for (const chunk of this.#liveWindow.chunks) this.#append(chunk);
    return true;
  }

  /** Limit the window around a position to what a terminal holds without dropping lines. */
  #clip(position: number): void {
    const lines = maxLines(this.#screens.cols);
    const above = new OutputWindow(this.#window.start);
    for (const chunk of this.#window.chunks) {
      if (chunk.position < position) above.append(chunk);
    }
    this.#window.dropBefore(above.startOfLastLines(lines / 2));
    const end = Math.min(this.#window.skipLines(position, lines / 4), position + 4 * PART_BYTES);
    if (end < this.#window.end) {
      this.#window.dropFrom(end);
      this.#window.dropUnfinishedLine();
      this.attached = false;
    }
  }

  /** Run one move at a time, with retries. A new move aborts the one before. */
  async #runExclusive(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    this.#moving.abort();
    const move = new AbortController();
    this.#moving = move;
    this.loading = true;
    try {
      for (;;) {
        try {
          await work(move.signal);
          reportRestored('range');
          return;
        } catch (error) {
          if (move.signal.aborted) return;
          if (!isTemporary(error)) throw error;
          reportLost('range', messageOf(error));
          await sleep(1000, move.signal);
        }
      }
    } catch (error) {
      this.errorText = messageOf(error);
    } finally {
      if (this.#moving === move) this.loading = false;
      reportRestored('range');
    }
  }

  #scrollToPosition(position: number, centred: boolean): void {
    const screen = this.#screen;
    if (!screen) return;
    scrollToPosition(screen, position, centred);
    if (this.target === position) this.target = screen.lineStart(position);
    this.#lastY = screen.terminal.buffer.active.viewportY;
    this.#refresh();
  }

  scrollLines(lines: number): void {
    this.#screen?.terminal.scrollLines(lines);
    if (lines < 0 && this.#screen?.atStart) void this.loadEarlier();
  }

  scrollPages(pages: number): void {
    this.scrollLines(pages * Math.max(1, (this.#screen?.terminal.rows ?? 2) - 2));
  }

  toggleFollow(): void {
    if (this.following) {
      this.following = false;
      this.#screen?.terminal.scrollLines(-1);
    } else void this.toEnd();
  }

  // Screens

  /**
   * Draw the window on a new screen and replace the old one with it.
   *
   * @param place - where the new screen is scrolled: to the end, to the same line as the old one, or
   * to a position.
   * @param centred - whether the position is shown near the middle instead of at the top.
   */
  async #rebuild(place: 'end' | 'same' | number, centred = false): Promise<void> {
    if (place === 'end') this.#window.dropBefore(this.#window.startOfLastLines(maxLines(this.#screens.cols)));
    const from = this.#window.firstWholeLine(FIRST_LINE_BYTES);
    const chunks = this.#window.chunks.flatMap((chunk) => partFrom(chunk, from) ?? []);
    this.#shownFrom = chunks.length ? from : null;
    const screen = await this.#screens.draw(chunks, (next, old) => {
      if (place === 'end') {
        next.terminal.scrollToBottom();
        this.following = true;
      } else if (place === 'same') {
        const top = old?.topLine();
        if (top) next.terminal.scrollToLine(Math.max(0, next.rowOf(top.position) - top.y));
      } else {
        scrollToPosition(next, place, centred);
        if (this.target === place) this.target = next.lineStart(place);
      }
    });
    if (screen && !this.wrap && this.#screens.cols > screen.options.cols) void this.#rebuild('same');
  }

  #screenShown(screen: Screen): void {
    this.#lastY = screen.terminal.buffer.active.viewportY;
    screen.terminal.onRender(() => this.#scheduleRefresh());
    screen.terminal.onScroll(() => this.#scheduleRefresh());
    screen.search.onDidChangeResults((results) => {
      this.matches = { index: results.resultIndex, count: results.resultCount };
    });
    if (this.#searchText) this.find(this.#searchText, true, true);
    this.#refresh();
  }

  /** Draw the window again at the same line, after the width, the filter or the colours changed. */
  redraw(): void {
    if (!this.#screen || this.replay) {
      this.replay?.seek(this.replay.time);
      return;
    }
    void this.#rebuild(this.following ? 'end' : 'same');
  }

  setDark(dark: boolean): void {
    if (this.#dark === dark) return;
    this.#dark = dark;
    if (!this.#screens.updateColours()) return;
    // The screen that was dropped may have been the first one.
    if (this.#screen || this.replay) this.redraw();
    else void this.#rebuild(this.following ? 'end' : 'same');
  }

  setStream(stream: StreamName | null): void {
    if (this.stream === stream) return;
    this.stream = stream;
    this.redraw();
  }

  setReadAloud(readAloud: boolean): void {
    this.readAloud = readAloud;
    this.redraw();
  }

  setWrap(wrap: boolean): void {
    this.wrap = wrap;
    this.redraw();
  }

  #fit(): void {
    const screen = this.#screen;
    if (!screen) return;
    const cols = this.#screens.cols;
    const rows = this.#screens.rows;
    if (cols !== screen.options.cols) return this.redraw();
    if (rows !== screen.terminal.rows) {
      screen.terminal.resize(cols, rows);
      if (this.following) screen.terminal.scrollToBottom();
    }
    this.#scheduleRefresh();
  }

  #scheduleRefresh(): void {
    if (this.#refreshing) return;
    this.#refreshing = true;
    requestAnimationFrame(() => {
      this.#refreshing = false;
      this.#refresh();
    });
  }

  /** Update the state that components show from the screen. */
  #refresh(): void {
    const screen = this.#screen;
    if (!screen || this.#closed.signal.aborted) return;
    const { viewportY } = screen.terminal.buffer.active;
    const rows: GutterRow[] = [];
    for (let y = 0; y < screen.terminal.rows; y++) {
      const origin = screen.originOf(viewportY + y);
      if (origin) rows.push({ ...origin, y });
    }
    this.rows = rows;
    this.cellHeight = screen.cellHeight;
    this.first = screen.firstPosition ?? this.#window.start;
    this.last = this.#window.end;
    this.atEnd = screen.atEnd && this.attached;
    if (this.replay) return;
    const scrolledBy = viewportY - this.#lastY;
    this.#lastY = viewportY;
    if (!screen.atEnd) this.following = false;
    else if (this.attached && this.target === null) this.following = true;
    // Load more before the reader reaches the end of the window.
    const { baseY } = screen.terminal.buffer.active;
    if (scrolledBy > 0 && baseY - viewportY < screen.terminal.rows) void this.loadLater();
    if (scrolledBy < 0 && viewportY < screen.terminal.rows) void this.loadEarlier();
  }

  // Search

  find(text: string, forward: boolean, incremental = false): void {
    this.#searchText = text;
    const screen = this.#screen;
    if (!screen) return;
    if (!text) {
      screen.search.clearDecorations();
      screen.terminal.clearSelection();
      this.matches = null;
      return;
    }
    screen.find(text, forward, { incremental, decorations: matchColours(this.#dark) });
  }

  // Replay

  startReplay(startedAt: number, finishedAt: number): void {
    if (this.replay) return;
    this.#moving.abort();
    this.#setTarget(null);
    this.following = false;
    const replay = new Replay(this.id, this.size, startedAt, finishedAt, async (chunks, signal) => {
      const window = new OutputWindow(chunks[0]?.position ?? 0);
      for (const chunk of chunks) window.append(chunk);
      const from = window.firstWholeLine();
      const screen = await this.#screens.draw(
        chunks.flatMap((chunk) => partFrom(chunk, from) ?? []),
        (next) => next.terminal.scrollToBottom(),
      );
      if (!screen || signal.aborted) throw new DOMException('replaced by a newer screen', 'AbortError');
      return screen;
    });
    this.replay = replay;
    replay.seek(0);
  }

  endReplay(): void {
    this.replay?.close();
    this.replay = null;
    this.attached = false;
    void this.toEnd();
  }
}

/** Scroll the line with a position to the top, or to a third of the height if centred. */
function scrollToPosition(screen: Screen, position: number, centred: boolean): void {
  const offset = centred ? Math.floor(screen.terminal.rows / 3) : 0;
  screen.terminal.scrollToLine(Math.max(0, screen.rowOf(position) - offset));
}
