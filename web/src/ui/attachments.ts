/** Svelte attachments: behaviour that is added to an element with `{@attach …}`. */
import type { Attachment } from 'svelte/attachments';

/** Focus the element when it appears, and select its text. */
export function focusOnMount(element: HTMLElement): void {
  element.focus();
  if (element instanceof HTMLInputElement) element.select();
}

/**
 * Close an open element on Escape and on a click outside of the element's parent. The parent also
 * contains the button that opened the element; the button itself closes it.
 *
 * @param close - called with true after Escape, which should return the focus to the opener.
 */
export function dismissible(close: (byKey: boolean) => void): Attachment<HTMLElement> {
  return (element) => {
    const onPointerDown = (event: PointerEvent) => {
      if (!element.parentElement?.contains(event.target as Node)) close(false);
    };
    const onKeyDown = (event: KeyboardEvent) => {
      if (event.key !== 'Escape') return;
      event.preventDefault();
      event.stopPropagation();
      close(true);
    };
    document.addEventListener('pointerdown', onPointerDown, true);
    element.addEventListener('keydown', onKeyDown);
    return () => {
      document.removeEventListener('pointerdown', onPointerDown, true);
      element.removeEventListener('keydown', onKeyDown);
    };
  };
}
