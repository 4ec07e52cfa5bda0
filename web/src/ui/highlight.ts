/** Bash with colours, loaded only when a script is looked at or written. */
import { HighlightStyle, StreamLanguage } from '@codemirror/language';
import { shell } from '@codemirror/legacy-modes/mode/shell';
import { highlightCode, tags } from '@lezer/highlight';

export const bash = StreamLanguage.define(shell);

export const colours = HighlightStyle.define([
  { tag: tags.comment, color: 'var(--code-comment)' },
  { tag: [tags.string, tags.special(tags.string)], color: 'var(--code-string)' },
  { tag: tags.keyword, color: 'var(--code-keyword)' },
  { tag: [tags.variableName, tags.definition(tags.variableName)], color: 'var(--code-variable)' },
  { tag: tags.number, color: 'var(--code-number)' },
  { tag: [tags.standard(tags.variableName), tags.attributeName], color: 'var(--code-builtin)' },
]);

/** Draw a script into an element, as text: nothing in it is taken for markup. */
export function draw(element: HTMLElement, script: string): void {
  const style = colours.module;
  if (style && !document.getElementById('code-colours')) {
    const sheet = document.createElement('style');
    sheet.id = 'code-colours';
    sheet.textContent = style.getRules();
    document.head.append(sheet);
  }
  const parts = document.createDocumentFragment();
  highlightCode(
    script,
    bash.parser.parse(script),
    colours,
    (text, classes) => {
      if (!classes) return parts.append(text);
      const span = document.createElement('span');
      span.className = classes;
      span.textContent = text;
      parts.append(span);
    },
    () => parts.append('\n'),
  );
  element.replaceChildren(parts);
}
