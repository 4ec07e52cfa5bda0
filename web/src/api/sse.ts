/** Parses Server-Sent Events. */

export interface ServerEvent {
  id: string;
  event: string;
  data: string;
}

/** Parses an event stream that arrives in pieces, which may be cut anywhere. */
export class EventStreamParser {
  #rest = '';
  #id = '';
  #event = '';
  #data: string[] = [];

  /** Return the events that this piece completes. Comments and unknown fields are skipped. */
  push(piece: string): ServerEvent[] {
    const events: ServerEvent[] = [];
    const text = this.#rest + piece;
    let begin = 0;
    for (;;) {
      const end = text.indexOf('\n', begin);
      if (end < 0) break;
      this.#parseLine(text.slice(begin, text[end - 1] === '\r' ? end - 1 : end), events);
      begin = end + 1;
    }
    this.#rest = text.slice(begin);
    return events;
  }

  #parseLine(line: string, events: ServerEvent[]): void {
    if (line === '') {
      if (this.#data.length) {
        events.push({ id: this.#id, event: this.#event || 'message', data: this.#data.join('\n') });
      }
      this.#event = '';
      this.#data = [];
      return;
    }
    const colon = line.indexOf(':');
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (field === 'id') this.#id = value;
    else if (field === 'event') this.#event = value;
    else if (field === 'data') this.#data.push(value);
  }
}
