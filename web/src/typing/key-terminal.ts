/**
 * A terminal that sends keys. Unlike the viewer's screens, it draws programs that use the whole
 * screen, it has the size of the window, and it keeps only the newest output.
 */
import { type ITheme, Terminal } from '@xterm/xterm';
import { DARK, LIGHT } from '../output/terminal/palette';
import { Sanitizer } from '../output/terminal/sanitize';
import { FONT } from '../output/terminal/screen';

/** How much text the terminal gets at a time. It parses this in a few milliseconds. */
const PIECE_LENGTH = 64 << 10;
/** If more text than this waits to be drawn, only the newest of it is drawn. */
const MAX_WAITING_LENGTH = 2 << 20;
const KEPT_LENGTH = 128 << 10;
const SCROLLBACK_LINES = 5000;
const SCROLLBAR_PX = 14;
const RESIZE_PAUSE_MS = 80;
const MIN_ROWS = 2;
const MIN_COLS = 20;

export interface KeyTerminalListener {
  keys(bytes: Uint8Array<ArrayBuffer>): void;
  resized(rows: number, cols: number): void;
  /** Ctrl-] was pressed. */
  left(): void;
}

export class KeyTerminal {
  readonly #terminal: Terminal;
  readonly #host: HTMLElement;
  readonly #listener: KeyTerminalListener;
  readonly #observer: ResizeObserver;
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  readonly #sanitizer = new Sanitizer(true);
  #waiting: string[] = [];
  #waitingLength = 0;
  #drawing = false;
  #disposed = false;

  constructor(host: HTMLElement, options: { dark: boolean; readAloud: boolean }, listener: KeyTerminalListener) {
    this.#host = host;
    this.#listener = listener;
    this.#terminal = new Terminal({
      theme: themeOf(options.dark),
      screenReaderMode: options.readAloud,
      scrollback: SCROLLBACK_LINES,
      fontFamily: FONT,
      fontSize: 13,
      lineHeight: 1.3,
      minimumContrastRatio: 4.5,
      cursorStyle: 'block',
      linkHandler: { activate: () => undefined },
      allowProposedApi: true,
    });
    this.#terminal.open(host);
    this.#terminal.textarea?.setAttribute('aria-label', 'Keys for the command. Ctrl-] leaves it.');
    this.#terminal.attachCustomKeyEventHandler((event) => this.#isForScript(event));
    this.#terminal.onData((text) => this.#send(text));
    this.#terminal.onBinary((text) => listener.keys(Uint8Array.from(text, (char) => char.charCodeAt(0))));
    let timer: ReturnType<typeof setTimeout> | undefined;
    this.#observer = new ResizeObserver(() => {
      clearTimeout(timer);
      timer = setTimeout(() => !this.#disposed && this.fit(), RESIZE_PAUSE_MS);
    });
    this.#observer.observe(host);
  }

  get rows(): number {
    return this.#terminal.rows;
  }

  get cols(): number {
    return this.#terminal.cols;
  }

  /** Take the size of the window. */
  fit(): void {
    const screen = this.#host.querySelector('.xterm-screen')?.getBoundingClientRect();
    if (!screen?.width) return;
    const { clientWidth, clientHeight } = this.#host;
    const cols = Math.max(MIN_COLS, Math.floor((clientWidth - SCROLLBAR_PX) / (screen.width / this.cols)));
    const rows = Math.max(MIN_ROWS, Math.floor(clientHeight / (screen.height / this.rows)));
    if (rows === this.rows && cols === this.cols) return;
    this.#terminal.resize(cols, rows);
    this.#listener.resized(rows, cols);
  }

  focus(): void {
    this.#terminal.focus();
  }

  setDark(dark: boolean): void {
    this.#terminal.options.theme = themeOf(dark);
  }

  dispose(): void {
    this.#disposed = true;
    this.#observer.disconnect();
    this.#terminal.dispose();
  }

  /**
   * Draw output.
   *
   * @param isNew - whether it was printed after this terminal was opened. The script must not get
   * answers to queries that it sent before.
   */
  write(bytes: Uint8Array, isNew: boolean): void {
    this.#sanitizer.queries = isNew;
    const text = this.#sanitizer.push(this.#decoder.decode(bytes, { stream: true }));
    for (let at = 0; at < text.length; at += PIECE_LENGTH) this.#waiting.push(text.slice(at, at + PIECE_LENGTH));
    this.#waitingLength += text.length;
    if (this.#waitingLength > MAX_WAITING_LENGTH) {
      while (this.#waitingLength > KEPT_LENGTH && this.#waiting.length > 1) this.#waitingLength -= this.#waiting.shift()!.length;
    }
    this.#draw();
  }

  #draw(): void {
    const text = this.#waiting[0];
    if (this.#drawing || this.#disposed || text === undefined) return;
    this.#waiting.shift();
    this.#waitingLength -= text.length;
    this.#drawing = true;
    this.#terminal.write(text, () => {
      this.#drawing = false;
      this.#draw();
    });
  }

  #isForScript(event: KeyboardEvent): boolean {
    const leaves = event.ctrlKey && !event.metaKey && (event.key === ']' || (event.code === 'BracketRight' && !event.altKey));
    if (!leaves) return true;
    event.preventDefault();
    if (event.type === 'keydown') this.#listener.left();
    return false;
  }

  #send(text: string): void {
    // Some keyboards make Ctrl-] with other keys.
    if (text === '\x1d') this.#listener.left();
    else this.#listener.keys(new TextEncoder().encode(text));
  }
}

function themeOf(dark: boolean): ITheme {
  const theme = dark ? DARK : LIGHT;
  return { ...theme, cursor: theme.foreground!, cursorAccent: theme.background! };
}
