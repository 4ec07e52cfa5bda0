import { expect, test } from 'vitest';
import type { StreamName } from '../../api/types';
import { OutputDecoder } from './decode';
import { Sanitizer } from './sanitize';

const bytes = (text: string) => new TextEncoder().encode(text);
const chunk = (data: Uint8Array, stream: StreamName = 'stdout') => ({ position: 0, stream, time: 0, bytes: data });

test('characters are complete wherever the output is cut, also with the other stream in between', () => {
  const data = bytes('a ü € 🎉 z');
  for (let cut = 0; cut <= data.length; cut++) {
    const text = new OutputDecoder();
    const first = text.push(chunk(data.subarray(0, cut)));
    text.push(chunk(bytes('✕'), 'stderr'));
    expect(first + text.push(chunk(data.subarray(cut)))).toBe('a ü € 🎉 z');
  }
});

test('bytes that are not UTF-8 become replacement characters', () => {
  expect(new OutputDecoder().push(chunk(new Uint8Array([65, 0xff, 0x9b, 0, 7, 66, 10])))).toBe('A��B\n');
});

test.each([
  ['colours', '\x1b[1;38;2;1;2;3mx\x1b[0m'],
  ['a progress bar', '10%\r\x1b[K20%\b'],
  ['cursor up and erase', '\x1b[2A\x1b[2K\x1b[J'],
  ['hidden cursor', '\x1b[?25l'],
])('%s: kept', (_, text) => expect(new Sanitizer().push(text)).toBe(text));

const FULL_SCREEN = '\x1b[?1049h\x1b[?1h\x1b=\x1b[1;24r\x1b[?2004h\x1b[?1006h\x1b(0lqk\x1b(B\x0f\x1b[2 q\x1b[3J\x1bM';

test('a terminal to type in shows full-screen programs, and gets no queries of earlier output', () => {
  const text = new Sanitizer(true);
  expect(text.push(FULL_SCREEN)).toBe(FULL_SCREEN);
  const queries = '\x1b[6n\x1b[c\x1b[>c\x1b[>0q\x1b[?2026$p\x1b[?u';
  expect(text.push(`a${queries}b`)).toBe('ab');
  text.queries = true;
  expect(text.push(queries)).toBe(queries);
  // Neither the title, the clipboard, links nor device control.
  expect(text.push('a\x1b]0;owned\x07\x1b]52;c;aGk=\x1b\\\x1bP$qm\x1b\\\x07b')).toBe('ab');
  expect(text.push('\x1b[2000000000I\x1b[2000000000b')).toBe('\x1b[512I\x1b[512b');
});

test.each([
  ['a title', 'a\x1b]0;owned\x07b', 'ab'],
  ['the clipboard', 'a\x1b]52;c;aGk=\x1b\\b', 'ab'],
  ['a link', '\x1b]8;;http://evil\x1b\\text\x1b]8;;\x1b\\', 'text'],
  ['questions', 'a\x1b[6n\x1b[c\x1b[>c\x1b[5n\x1b[18t\x1b[?6nb', 'ab'],
  ['device control', 'a\x1bP$qm\x1b\\b', 'ab'],
  ['mouse and other screens', 'a\x1b[?1049h\x1b[?1000h\x1b[?2004hb', 'ab'],
  ['erasing what was printed', 'a\x1b[3Jb', 'ab'],
  ['a reset', 'a\x1bcb', 'a\x1b[0mb'],
  ['eight-bit sequences', 'a\u009b6nb', 'a6nb'],
  ['bells and shifts', 'a\x07\x0e\x0fb', 'ab'],
  ['charsets', 'a\x1b(0b', 'ab'],
])('%s: dropped', (_, text, left) => expect(new Sanitizer().push(text)).toBe(left));

test('a sequence has the same result wherever it is cut', () => {
  const text = 'x\x1b[31mred\x1b]0;t\x07\x1b[0m\x1b[6ny';
  for (let cut = 0; cut <= text.length; cut++) {
    const sanitizer = new Sanitizer();
    expect(sanitizer.push(text.slice(0, cut)) + sanitizer.push(text.slice(cut))).toBe('x\x1b[31mred\x1b[0my');
  }
});

test('a sequence that never ends hides neither the next line nor a long rest', () => {
  expect(new Sanitizer().push('a\x1b]0;never\nb')).toBe('a\nb');
  expect(new Sanitizer().push(`\x1bP${'x'.repeat(9000)}`).length).toBeGreaterThan(4000);
});

test('every newline stays one newline, whatever is around it', () => {
  const random = Uint8Array.from({ length: 200_000 }, (_, index) => (index * 7919 + (index >> 3) * 31) % 256);
  const count = (text: string) => text.split('\n').length;
  const shown = new OutputDecoder().push(chunk(random));
  expect(count(shown)).toBe(random.filter((byte) => byte === 10).length + 1);
});

test.each([
  ['S', '64'],
  ['T', '64'],
  ['L', '64'],
  ['M', '64'],
  ['b', '512'],
])('repeat counts are bounded: %s', (final, most) => {
  expect(new Sanitizer().push(`a\x1b[2147483647${final}`)).toBe(`a\x1b[${most}${final}`);
  expect(new Sanitizer().push(`a\x1b[3${final}`)).toBe(`a\x1b[3${final}`);
  expect(new Sanitizer().push(`a\x1b[${final}`)).toBe(`a\x1b[${final}`);
});
