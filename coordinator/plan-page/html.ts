/** The little HTML that the plan's page needs: text that cannot break out of its place, and elements as strings. */

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

export const escapeText = (text: string): string => text.replace(/[&<>"]/g, (character) => ENTITIES[character] ?? '');

/** An element; `content` is HTML already. */
export const element = (
  tag: string,
  attributes: Readonly<Record<string, string>>,
  ...content: readonly string[]
): string => {
  const written = Object.entries(attributes).map(([name, value]) => ` ${name}="${escapeText(value)}"`);
  return `<${tag}${written.join('')}>${content.join('')}</${tag}>`;
};

export const div = (className: string, ...content: readonly string[]): string =>
  element('div', { class: className }, ...content);

/** A table; cells are plain text. The first column is left-aligned, the others are figures. */
export const table = (titles: readonly string[], rows: readonly (readonly string[])[]): string => {
  const row = (tag: string, cells: readonly string[]) =>
    element('tr', {}, ...cells.map((cell) => element(tag, {}, escapeText(cell))));
  return element(
    'table',
    {},
    element('thead', {}, row('th', titles)),
    element('tbody', {}, ...rows.map((cells) => row('td', cells))),
  );
};
