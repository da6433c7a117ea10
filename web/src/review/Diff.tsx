/** The rows that are on the screen, of however many there are. */
import { useVirtualizer, type Virtualizer } from '@tanstack/react-virtual';
import { useEffect, useLayoutEffect, useRef, useState, type RefObject } from 'react';
import './code.css';
import { colour, useColours } from './highlight';
import { Row, type Acts } from './Row';
import { hunksOf, rowKey, type Row as RowData } from './rows';

const LINE = 20;
/** Of code at its size, in pixels. */
const CHARACTER = 7.23;
const heights = { file: 38, note: 38, gap: 24, comment: 90, writing: 130, end: 16 };

export type Scroller = Virtualizer<HTMLElement, Element>;

/** Whether a row may be higher than one line: only then is it measured. */
function fits(row: RowData, columns: number): boolean {
  const short = (text: string | undefined) =>
    text === undefined || (text.length <= columns && !text.includes('\t') && /^[\x20-\x7e]*$/.test(text));
  if (row.is === 'line') return short(row.line.text) && row.line.open !== true;
  if (row.is === 'pair')
    return (
      short(row.pair.left?.text) &&
      short(row.pair.right?.text) &&
      row.pair.left?.open !== true &&
      row.pair.right?.open !== true
    );
  return row.is === 'end';
}

function height(row: RowData, columns: number): number {
  const lines = (text: string | undefined) =>
    Math.max(1, Math.ceil(Math.min(text?.length ?? 0, 640) / columns));
  if (row.is === 'line') return LINE * lines(row.line.text);
  if (row.is === 'pair') return LINE * Math.max(lines(row.pair.left?.text), lines(row.pair.right?.text));
  return heights[row.is];
}

export function Diff({
  rows,
  loaded,
  split,
  pointed,
  acts,
  scroller,
  handle,
  onTop,
}: {
  rows: readonly RowData[];
  loaded: ReadonlyMap<string, string>;
  split: boolean;
  pointed: number | undefined;
  acts: Acts;
  scroller: HTMLElement;
  handle: RefObject<Scroller | null>;
  /** Which file is at the top now. */
  onTop: (path: string) => void;
}) {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  const [margin, setMargin] = useState(0);
  const colours = useColours();
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const measure = () => {
      setWidth(element.clientWidth);
      setMargin(
        element.getBoundingClientRect().top - scroller.getBoundingClientRect().top + scroller.scrollTop,
      );
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    // What stands above may grow: it moves this without changing its size.
    if (element.parentElement) for (const one of element.parentElement.children) observer.observe(one);
    return () => {
      observer.disconnect();
    };
  }, [scroller]);
  const narrow = width < 600;
  const gutters = split ? 2 * (narrow ? 32 : 40) + 20 : (narrow ? 32 : 80) + 26;
  const columns = Math.max(10, Math.floor((width - gutters) / (split ? 2 : 1) / CHARACTER) - 1);
  // eslint-disable-next-line react-hooks/incompatible-library -- drawn anew with each scroll, which is what is meant
  const list = useVirtualizer<HTMLElement, Element>({
    count: rows.length,
    getScrollElement: () => scroller,
    estimateSize: (index) => {
      const row = rows[index];
      return row ? height(row, columns) : LINE;
    },
    getItemKey: (index) => {
      const row = rows[index];
      return row ? rowKey(row) : index;
    },
    overscan: 12,
    scrollMargin: margin,
  });
  useEffect(() => {
    handle.current = list;
  }, [handle, list]);
  // At another width lines have other heights, also those that are not on the screen.
  useLayoutEffect(() => {
    list.measure();
    // Sizes that are measured are kept only if they differ from those it has, so it first has to have the new ones.
    list.getTotalSize();
    for (const element of list.elementsCache.values()) list.measureElement(element);
  }, [list, columns]);
  const items = list.getVirtualItems();
  const first = items.find((item) => item.end > (list.scrollOffset ?? 0) + 1);
  const top = first && rows[first.index]?.file.file.path;
  useEffect(() => {
    if (top !== undefined) onTop(top);
  }, [top, onTop]);
  useEffect(() => {
    for (const item of items) {
      const row = rows[item.index];
      if (row?.is !== 'line' && row?.is !== 'pair') continue;
      colour(row.file.file.path, hunksOf(row.file, loaded.get(row.file.file.path) ?? row.file.text));
    }
  }, [items, rows, loaded]);
  return (
    <div ref={box} className="code relative" style={{ height: list.getTotalSize() }}>
      {width > 0 &&
        items.map((item) => {
          const row = rows[item.index];
          if (!row) return null;
          return (
            <div
              key={item.key}
              data-index={item.index}
              ref={fits(row, columns) ? undefined : list.measureElement}
              className="absolute inset-x-0 top-0"
              style={{ transform: `translateY(${item.start - margin}px)` }}
            >
              <Row
                row={row}
                index={item.index}
                pointed={pointed === item.index}
                acts={acts}
                colours={colours}
              />
            </div>
          );
        })}
    </div>
  );
}
