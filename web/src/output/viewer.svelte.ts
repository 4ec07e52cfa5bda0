/**
 * What a reader sees of one command's output, and the ways to move in it.
 *
 * The tail (`tail.ts`) has the newest bytes. The window is what is on the screen (`stage.ts`):
 * attached to the tail it grows with it, elsewhere it stands still and its neighbours are read from
 * the service by range.
 */
import { readRange } from '../api/events';
import { isPassing, messageOf } from '../api/problem';
import type { CommandEvent, StreamName } from '../api/types';
import { back, lost } from '../app/connection.svelte';
import { sleep } from '../api/retry';
import { type Chunk, OutputWindow, after } from './chunks';
import { matches } from './terminal/palette';
import { Replay } from './replay.svelte';
import { type Line, type Screen, capacity } from './terminal/screen';
import { Stage } from './terminal/double-buffer';
import { PART_BYTES, Tail } from './live-output';

const WINDOW_BYTES = 6 << 20;
const AHEAD_BYTES = 192 << 10;
/** Parts that are searched for output of the one stream that is shown. */
const PARTS_OF_A_STREAM = 16;
const FIRST_LINE_BYTES = 16 << 10;

export interface GutterRow extends Line {
  y: number;
  first: boolean;
}

export class Viewer {
  stream = $state<StreamName | null>(null);
  wrap = $state(true);
  readAloud = $state(false);
  following = $state(true);
  /** bytes of output that are known of */
  size = $state(0);
  complete = $state(false);
  /** whether the window grows together with the tail */
  attached = $state(true);
  /** whether the last line of all output is on the screen */
  atEnd = $state(true);
  loading = $state(false);
  trouble = $state('');
  /** bytes that were passed over to keep up */
  skipped = $state(0);
  target = $state<number | null>(null);
  rows = $state.raw<GutterRow[]>([]);
  cellHeight = $state(0);
  /** range that is on the terminal */
  first = $state(0);
  last = $state(0);
  found = $state<{ index: number; count: number } | null>(null);
  replay = $state.raw<Replay | null>(null);

  readonly id: string;
  readonly #onCommand: (command: CommandEvent) => void;
  readonly #ended = new AbortController();
  readonly #resize: ResizeObserver;
  readonly #stage: Stage;
  readonly #newest: Tail;
  #window = new OutputWindow(0);
  #moving = new AbortController();
  #dark = true;
  #refreshing = false;
  #lastY = 0;
  #needle = '';
  /** where the first whole line begins; null until it is known */
  #shownFrom: number | null = null;

  constructor(id: string, host: HTMLElement, onCommand: (command: CommandEvent) => void) {
    this.id = id;
    this.#onCommand = onCommand;
    this.#stage = new Stage(
      host,
      () => ({
        wrap: this.wrap,
        dark: this.#dark,
        stream: this.stream,
        readAloud: this.readAloud,
      }),
      (screen) => this.#shown(screen),
    );
    this.#newest = new Tail(id, {
      command: (command, ended) => this.#heard(command, ended),
      output: (news) => this.#printed(news),
      passesOver: (from, to, size) => this.#passedOver(from, to, size),
      fails: (why) => (this.trouble = why),
    });
    let timer: ReturnType<typeof setTimeout> | undefined;
    this.#resize = new ResizeObserver(() => {
      clearTimeout(timer);
      timer = setTimeout(() => this.#fit(), 80);
    });
    this.#resize.observe(host);
  }

  get #screen(): Screen | null {
    return this.#stage.current;
  }

  get #tail(): OutputWindow {
    return this.#newest.window;
  }

  /**
   * Begin: show the end, or the line of a position, and follow.
   *
   * @param size - bytes of output there were a moment ago.
   */
  open(size: number, position: number | null, dark: boolean): void {
    this.#dark = dark;
    this.size = size;
    const start = Math.max(0, size - PART_BYTES);
    this.#newest.follow(start);
    if (position !== null && position < start) {
      this.attached = false;
      void this.toPosition(position);
    } else {
      this.#window = new OutputWindow(start);
      if (position !== null) this.#goTo(position);
      if (position === null) void this.#rebuild('end');
      else void this.#arrive(position);
    }
  }

  /** Go to a position near the end as soon as it has been read. */
  async #arrive(position: number): Promise<void> {
    this.following = false;
    await this.#rebuild('same');
    while (!this.#ended.signal.aborted && this.target === position) {
      await this.#screen?.drawn();
      if (this.#window.end > position || this.complete) return this.#scrollTo(position, true);
      await sleep(50, this.#ended.signal);
    }
  }

  close(): void {
    this.#ended.abort();
    this.#newest.close();
    this.#moving.abort();
    this.replay?.close();
    this.#resize.disconnect();
    this.#stage.close();
  }

  // What the tail tells

  #heard(command: CommandEvent, ended: boolean): void {
    if (ended) {
      this.complete = true;
      if (this.attached && !this.replay) this.#write(null);
    }
    this.#onCommand(command);
  }

  async #printed(news: Chunk): Promise<void> {
    this.size = Math.max(this.size, this.#tail.end);
    if (!this.attached || this.replay) return;
    this.#append(news);
    // A terminal that cannot keep up slows the reading down, and with it the service.
    await this.#screen?.below(AHEAD_BYTES);
  }

  #passedOver(from: number, to: number, size: number): void {
    this.size = size;
    if (this.attached && this.following && !this.replay) {
      this.skipped += to - from;
      this.#window = new OutputWindow(to);
      void this.#rebuild('end');
    } else this.attached = false;
  }

  #append(chunk: Chunk): void {
    const news = this.#window.append(chunk);
    if (!news) return;
    this.#write(news);
    const screen = this.#screen;
    if (!screen) return;
    const { baseY, viewportY } = screen.terminal.buffer.active;
    // Who reads further up must not lose the place: then it stops growing instead.
    if (!this.following && baseY - viewportY > capacity(screen.options.cols) / 2) {
      this.attached = false;
    }
    if (this.#window.bytes > WINDOW_BYTES) this.#forget();
  }

  /** Write to the screen, beginning with a whole line where the window begins in the middle. */
  #write(chunk: Chunk | null): void {
    const begun = this.#shownFrom !== null;
    if (!begun) {
      const from = this.#window.firstLine(FIRST_LINE_BYTES);
      const near = from === this.#window.start && from > 0 && this.#window.bytes < FIRST_LINE_BYTES;
      if (near && !this.complete) return;
      this.#shownFrom = from;
    }
    for (const part of begun ? (chunk ? [chunk] : []) : this.#window.chunks) {
      const shown = after(part, this.#shownFrom ?? 0);
      if (!shown) continue;
      this.#stage.write(shown);
    }
  }

  /** Drop what the terminal does not hold any more. */
  #forget(): void {
    const first = this.#screen?.firstPosition;
    if (first != null) this.#window.dropBefore(Math.min(first, this.#window.end));
  }

  // Moving

  async toEnd(): Promise<void> {
    this.#goTo(null);
    if (this.attached && this.#window.end >= this.#tail.end) {
      this.#screen?.terminal.scrollToBottom();
      this.following = true;
      return this.#refresh();
    }
    this.#moving.abort();
    this.#window = new OutputWindow(this.#tail.start);
    for (const chunk of this.#tail.chunks) this.#window.append(chunk);
    this.attached = true;
    await this.#rebuild('end');
  }

  async toStart(): Promise<void> {
    this.#goTo(null);
    await this.#show(0, false);
  }

  /** Show the line of a position and mark it. */
  async toPosition(position: number): Promise<void> {
    this.#goTo(position);
    await this.#show(position, true);
  }

  /** Show a position without marking it: the scrubber. */
  async seek(position: number): Promise<void> {
    this.#goTo(null);
    await this.#show(position, false);
  }

  #goTo(target: number | null): void {
    this.target = target;
    this.following = target === null && this.following;
  }

  async #show(position: number, centred: boolean): Promise<void> {
    const at = Math.max(0, Math.min(position, this.size));
    this.following = false;
    const held = this.#screen && at >= this.first && at < this.last;
    if (held) return this.#scrollTo(at, centred);
    await this.#move(async (signal) => {
      const from = Math.max(0, at - PART_BYTES / 2);
      const to = Math.min(this.size, at + PART_BYTES);
      const chunks = await readRange(this.id, from, to, signal);
      const shown = new OutputWindow(from);
      for (const chunk of chunks) shown.append(chunk);
      if (shown.end < this.#tail.start) shown.dropUnfinishedLine();
      this.#window = shown;
      this.attached = false;
      this.#clip(at);
      this.#join();
      await this.#rebuild(at, centred);
    });
  }

  /** Read what comes before, keeping the line at the top where it is. */
  async earlier(): Promise<void> {
    const screen = this.#screen;
    if (!screen || this.loading || this.replay || this.first <= 0) return;
    await this.#move(async (signal) => {
      const top = this.rows.find((row) => row.first)?.position ?? this.first;
      this.#forget();
      for (let part = 0; part < (this.stream ? PARTS_OF_A_STREAM : 1); part++) {
        const start = this.#window.start;
        const chunks = await readRange(this.id, Math.max(0, start - PART_BYTES), start, signal);
        this.#window.prepend(chunks);
        if (this.#window.start === 0 || chunks.some((chunk) => chunk.stream === this.stream)) break;
      }
      this.#clip(top);
      await this.#rebuild('same');
    });
  }

  /** Read what comes behind, where the window does not reach the end. */
  async later(): Promise<void> {
    if (this.attached || this.loading || this.replay || !this.#screen) return;
    if (this.#join()) return;
    await this.#move(async (signal) => {
      // A terminal that stands at its end follows what is written: then it must not.
      const held = this.#screen?.atEnd === true;
      if (held) this.#screen?.terminal.scrollLines(-1);
      const { end } = this.#window;
      const to = Math.min(end + PART_BYTES, this.#tail.start);
      const more = new OutputWindow(end);
      for (const chunk of await readRange(this.id, end, to, signal)) more.append(chunk);
      if (to < this.#tail.start) more.dropUnfinishedLine();
      for (const chunk of more.chunks) this.#append(chunk);
      this.#join();
      this.#forget();
      await this.#screen?.drawn();
      if (held) this.#screen?.terminal.scrollLines(1);
    });
  }

  /** Grow together with the tail if the window reaches it. */
  #join(): boolean {
    if (this.#window.end < this.#tail.start) return false;
    this.attached = true;
    for (const chunk of this.#tail.chunks) this.#append(chunk);
    return true;
  }

  /** Keep no more around a position than a terminal holds without dropping its first lines. */
  #clip(position: number): void {
    const lines = capacity(this.#stage.cols);
    const above = new OutputWindow(this.#window.start);
    for (const chunk of this.#window.chunks) {
      if (chunk.position < position) above.append(chunk);
    }
    this.#window.dropBefore(above.backward(lines / 2));
    const end = Math.min(this.#window.forward(position, lines / 4), position + 4 * PART_BYTES);
    if (end < this.#window.end) {
      this.#window.dropFrom(end);
      this.#window.dropUnfinishedLine();
      this.attached = false;
    }
  }

  /** Do one thing at a time; the newest wish wins. */
  async #move(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    this.#moving.abort();
    const moving = new AbortController();
    this.#moving = moving;
    this.loading = true;
    try {
      for (;;) {
        try {
          await work(moving.signal);
          back('range');
          return;
        } catch (error) {
          if (moving.signal.aborted) return;
          if (!isPassing(error)) throw error;
          lost('range', messageOf(error));
          await sleep(1000, moving.signal);
        }
      }
    } catch (error) {
      this.trouble = messageOf(error);
    } finally {
      if (this.#moving === moving) this.loading = false;
      back('range');
    }
  }

  #scrollTo(position: number, centred: boolean): void {
    const screen = this.#screen;
    if (!screen) return;
    scrollTo(screen, position, centred);
    if (this.target === position) this.target = screen.lineStart(position);
    this.#lastY = screen.terminal.buffer.active.viewportY;
    this.#refresh();
  }

  scrollLines(lines: number): void {
    this.#screen?.terminal.scrollLines(lines);
    if (lines < 0 && this.#screen?.atStart) void this.earlier();
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
   * Draw the window on a new screen, then put that in the place of the old one.
   *
   * @param place - the end, a position that is to be at the top (or near the middle), or where the
   * reader is by then.
   */
  async #rebuild(place: 'end' | 'same' | number, centred = false): Promise<void> {
    if (place === 'end') this.#window.dropBefore(this.#window.backward(capacity(this.#stage.cols)));
    const from = this.#window.firstLine(FIRST_LINE_BYTES);
    const chunks = this.#window.chunks.flatMap((chunk) => after(chunk, from) ?? []);
    this.#shownFrom = chunks.length ? from : null;
    const screen = await this.#stage.draw(chunks, (next, old) => {
      if (place === 'end') {
        next.terminal.scrollToBottom();
        this.following = true;
      } else if (place === 'same') {
        const top = old?.topLine();
        if (top) next.terminal.scrollToLine(Math.max(0, next.rowOf(top.position) - top.y));
      } else {
        scrollTo(next, place, centred);
        if (this.target === place) this.target = next.lineStart(place);
      }
    });
    if (screen && !this.wrap && this.#stage.cols > screen.options.cols) void this.#rebuild('same');
  }

  /** Another screen is shown. */
  #shown(screen: Screen): void {
    this.#lastY = screen.terminal.buffer.active.viewportY;
    screen.terminal.onRender(() => this.#scheduleRefresh());
    screen.terminal.onScroll(() => this.#scheduleRefresh());
    screen.search.onDidChangeResults((results) => {
      this.found = { index: results.resultIndex, count: results.resultCount };
    });
    if (this.#needle) this.find(this.#needle, true, true);
    this.#refresh();
  }

  /** Draw again at the same place: another width, filter or colour. */
  redraw(): void {
    if (!this.#screen || this.replay) {
      this.replay?.seek(this.replay.at);
      return;
    }
    void this.#rebuild(this.following ? 'end' : 'same');
  }

  setDark(dark: boolean): void {
    if (this.#dark === dark) return;
    this.#dark = dark;
    if (!this.#stage.repaint()) return;
    // What was being drawn may have been the first.
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
    const cols = this.#stage.cols;
    const rows = this.#stage.rows;
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

  /** Tell what is on the screen now. */
  #refresh(): void {
    const screen = this.#screen;
    if (!screen || this.#ended.signal.aborted) return;
    const { viewportY } = screen.terminal.buffer.active;
    const rows: GutterRow[] = [];
    for (let y = 0; y < screen.terminal.rows; y++) {
      const line = screen.line(viewportY + y);
      if (line) rows.push({ ...line, y });
    }
    this.rows = rows;
    this.cellHeight = screen.cellHeight;
    this.first = screen.firstPosition ?? this.#window.start;
    this.last = this.#window.end;
    this.atEnd = screen.atEnd && this.attached;
    if (this.replay) return;
    const by = viewportY - this.#lastY;
    this.#lastY = viewportY;
    if (!screen.atEnd) this.following = false;
    else if (this.attached && this.target === null) this.following = true;
    // What comes next is read before one is there.
    const { baseY } = screen.terminal.buffer.active;
    if (by > 0 && baseY - viewportY < screen.terminal.rows) void this.later();
    if (by < 0 && viewportY < screen.terminal.rows) void this.earlier();
  }

  // Searching

  find(text: string, forward: boolean, incremental = false): void {
    this.#needle = text;
    const screen = this.#screen;
    if (!screen) return;
    if (!text) {
      screen.search.clearDecorations();
      screen.terminal.clearSelection();
      this.found = null;
      return;
    }
    screen.find(text, forward, { incremental, decorations: matches(this.#dark) });
  }

  // Replaying

  startReplay(begin: number, end: number): void {
    if (this.replay) return;
    this.#moving.abort();
    this.#goTo(null);
    this.following = false;
    const replay = new Replay(this.id, this.size, begin, end, {
      fresh: async (chunks, signal) => {
        const first = chunks[0];
        const window = new OutputWindow(first?.position ?? 0);
        for (const chunk of chunks) window.append(chunk);
        const from = window.firstLine();
        const screen = await this.#stage.draw(
          chunks.flatMap((chunk) => after(chunk, from) ?? []),
          (next) => next.terminal.scrollToBottom(),
        );
        if (!screen || signal.aborted) throw new DOMException('another wish came', 'AbortError');
        return screen;
      },
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

/** Scroll to the line of a position: to the top, or a little above the middle. */
function scrollTo(screen: Screen, position: number, centred: boolean): void {
  const offset = centred ? Math.floor(screen.terminal.rows / 3) : 0;
  screen.terminal.scrollToLine(Math.max(0, screen.rowOf(position) - offset));
}
