/**
 * Shows one command's output to a reader, and moves in it.
 *
 * `LiveOutput` has the newest bytes, and `ShownRange` has the bytes on the screen, also called the
 * window. If the window is attached to the live output, it grows with it. If it is not attached, it
 * grows only when the reader moves, and the output is read from the service. `ViewerState` is what
 * the components show.
 */
import { sleep } from '../api/retry';
import type { Chunk, CommandEvent, StreamName } from '../api/types';
import { LiveOutput, PART_BYTES } from './live-output';
import { Moves } from './moves';
import { Replay, replayScreens } from './replay.svelte';
import { ShownRange } from './shown-range';
import { DoubleBuffer } from './terminal/double-buffer';
import { matchColours } from './terminal/palette';
import { maxLines, type Screen } from './terminal/screen';
import { ViewerState } from './viewer-state.svelte';
import { scrollToPosition, visibleRows } from './visible-rows';

/** Reading pauses while more bytes than this wait to be drawn. */
const MAX_BACKLOG_BYTES = 192 << 10;

export class Viewer extends ViewerState {
  readonly id: string;
  readonly #onCommandChanged: (command: CommandEvent) => void;
  readonly #closed = new AbortController();
  readonly #screens: DoubleBuffer;
  readonly #live: LiveOutput;
  readonly #shown: ShownRange;
  readonly #moves = new Moves({
    loading: (loading) => (this.loading = loading),
    failed: (reason) => (this.errorText = reason),
  });
  #dark = true;
  #refreshing = false;
  #lastY = 0;
  #searchText = '';

  constructor(id: string, host: HTMLElement, onCommandChanged: (command: CommandEvent) => void) {
    super();
    this.id = id;
    this.#onCommandChanged = onCommandChanged;
    this.#screens = new DoubleBuffer(
      host,
      () => ({ wrap: this.wrap, dark: this.#dark, stream: this.stream, readAloud: this.readAloud }),
      (screen) => this.#screenShown(screen),
      () => this.#fit(),
    );
    this.#shown = new ShownRange(id, this.#screens);
    this.#live = new LiveOutput(id, {
      commandChanged: (command, ended) => this.#commandChanged(command, ended),
      outputAdded: (added) => this.#outputAdded(added),
      outputSkipped: (from, to, size) => this.#outputSkipped(from, to, size),
      failed: (reason) => (this.errorText = reason),
    });
  }

  /** Return whether the reader has selected text in the terminal. */
  hasSelection = (): boolean => this.#screen?.terminal.hasSelection() ?? false;

  get #screen(): Screen | null {
    return this.#screens.current;
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
      this.#shown.restart(start);
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
      if (this.#shown.end > position || this.complete) return this.#scrollToPosition(position, true);
      await sleep(50, this.#closed.signal);
    }
  }

  close(): void {
    this.#closed.abort();
    this.#live.close();
    this.#moves.abort();
    this.replay?.close();
    this.#screens.close();
  }

  // Live output

  #commandChanged(command: CommandEvent, ended: boolean): void {
    if (ended) {
      this.complete = true;
      if (this.attached && !this.replay) this.#shown.flush();
    }
    this.#onCommandChanged(command);
  }

  async #outputAdded(added: Chunk): Promise<void> {
    this.size = Math.max(this.size, this.#live.window.end);
    if (!this.attached || this.replay) return;
    this.#append(added);
    // If the terminal cannot keep up, this wait slows down the reading, and so also the service.
    await this.#screen?.waitForBacklog(MAX_BACKLOG_BYTES);
  }

  #outputSkipped(from: number, to: number, size: number): void {
    this.size = size;
    if (this.attached && this.following && !this.replay) {
      this.skipped += to - from;
      this.#shown.restart(to);
      void this.#rebuild('end');
    } else this.attached = false;
  }

  #append(chunk: Chunk): void {
    if (!this.#shown.append(chunk, this.complete)) return;
    const screen = this.#screen;
    if (!screen) return;
    const { baseY, viewportY } = screen.terminal.buffer.active;
    // The reader has scrolled up. If the window kept growing, the lines on the screen would leave
    // the terminal at the top.
    if (!this.following && baseY - viewportY > maxLines(screen.options.cols) / 2) {
      this.attached = false;
    }
    this.#shown.trim();
  }

  // Moving

  async toEnd(): Promise<void> {
    this.#setTarget(null);
    if (this.attached && this.#shown.end >= this.#live.window.end) {
      this.#screen?.terminal.scrollToBottom();
      this.following = true;
      return this.#refresh();
    }
    this.#moves.abort();
    this.#shown.replace(this.#live.window);
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
    await this.#moves.run(async (signal) => {
      const around = await this.#shown.readAround(at, this.size, this.#live.window.start, signal);
      signal.throwIfAborted();
      this.#shown.replace(around);
      this.attached = false;
      this.#shown.clip(at);
      this.#joinLive();
      await this.#rebuild(at, centred);
    });
  }

  /** Read the output before the window. The top line stays where it is. */
  async loadEarlier(): Promise<void> {
    const screen = this.#screen;
    if (!screen || this.loading || this.replay || this.first <= 0) return;
    await this.#moves.run(async (signal) => {
      const top = this.rows.find((row) => row.first)?.position ?? this.first;
      await this.#shown.readEarlier(this.stream, signal);
      signal.throwIfAborted();
      if (this.#shown.clip(top)) this.attached = false;
      await this.#rebuild('same');
    });
  }

  /** Read the output after the window, if the window does not reach the end. */
  async loadLater(): Promise<void> {
    if (this.attached || this.loading || this.replay || !this.#screen) return;
    if (this.#joinLive()) return;
    await this.#moves.run(async (signal) => {
      // A terminal that is scrolled to its end scrolls on when something is written to it.
      const wasAtEnd = this.#screen?.atEnd === true;
      if (wasAtEnd) this.#screen?.terminal.scrollLines(-1);
      const later = await this.#shown.readLater(this.#live.window.start, signal);
      signal.throwIfAborted();
      for (const chunk of later) this.#append(chunk);
      this.#joinLive();
      this.#shown.dropTrimmed();
      await this.#screen?.waitUntilDrawn();
      if (wasAtEnd) this.#screen?.terminal.scrollLines(1);
    });
  }

  /** Attach the window to the live output, if there is no gap between them. Return whether it is. */
  #joinLive(): boolean {
    if (this.#shown.end < this.#live.window.start) return false;
    this.attached = true;
    for (const chunk of this.#live.window.chunks) this.#append(chunk);
    return true;
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
    if (place === 'end') this.#shown.keepLastLines();
    const screen = await this.#shown.draw((next, old) => {
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
    // The dropped screen may have been the first one, so there may be no screen to show.
    if (this.#screen || this.replay) this.redraw();
    else void this.#rebuild(this.following ? 'end' : 'same');
  }

  setStream(stream: StreamName | null): void {
    if (this.stream === stream) return;
    this.stream = stream;
    this.redraw();
  }

  toggle(option: 'wrap' | 'readAloud'): void {
    this[option] = !this[option];
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
    this.rows = visibleRows(screen);
    this.cellHeight = screen.cellHeight;
    this.first = screen.firstPosition ?? this.#shown.start;
    this.last = this.#shown.end;
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
    if (!text) this.matches = null;
    screen.find(text, forward, { incremental, decorations: matchColours(this.#dark) });
  }

  // Replay

  startReplay(startedAt: number, finishedAt: number): void {
    if (this.replay) return;
    this.#moves.abort();
    this.#setTarget(null);
    this.following = false;
    const replay = new Replay(this.id, this.size, startedAt, finishedAt, replayScreens(this.#screens));
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
