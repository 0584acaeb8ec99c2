/** Plain text tables and figures for people. */

type Align = 'left' | 'right';

export interface Column {
  readonly title: string;
  readonly align?: Align;
}

const pad = (text: string, width: number, align: Align): string =>
  align === 'right' ? text.padStart(width) : text.padEnd(width);

/** Rows under titles, columns as wide as their widest cell. */
export const formatTable = (columns: readonly Column[], rows: readonly (readonly string[])[]): string => {
  const widths = columns.map(({ title }, index) =>
    Math.max(title.length, ...rows.map((row) => (row[index] ?? '').length)),
  );
  const line = (cells: readonly string[]): string =>
    columns
      .map(({ align = 'left' }, index) => pad(cells[index] ?? '', widths[index] ?? 0, align))
      .join('  ')
      .trimEnd();
  return [
    line(columns.map(({ title }) => title)),
    line(widths.map((width) => '-'.repeat(width))),
    ...rows.map(line),
  ].join('\n');
};

/** `12.3 ms`, `4.56 s` */
export const formatMs = (ms: number): string =>
  ms < 1000 ? `${ms.toFixed(ms < 100 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(2)} s`;

/** `97.3 %` */
export const formatShare = (fraction: number): string => `${(100 * fraction).toFixed(1)} %`;

/** `1.93x` */
export const formatRatio = (ratio: number): string => `${ratio.toFixed(2)}x`;
