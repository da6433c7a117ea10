/**
 * Colours code, away from the page: its expressions run over hostile text and may take for ever, then the page ends
 * this worker. What comes back are lengths and kinds, never markup.
 */
import { common, createLowlight } from 'lowlight';
import dockerfile from 'highlight.js/lib/languages/dockerfile';
import nginx from 'highlight.js/lib/languages/nginx';
import protobuf from 'highlight.js/lib/languages/protobuf';
import type { Colour, Coloured, Piece } from './highlight';

const lowlight = createLowlight({ ...common, dockerfile, nginx, protobuf });

/** Kinds of highlight.js, as the few that are told apart here. */
const kinds: Record<string, Piece[1]> = {
  keyword: 'key',
  operator: 'plain',
  literal: 'value',
  number: 'value',
  symbol: 'value',
  bullet: 'key',
  string: 'text',
  regexp: 'text',
  char: 'text',
  subst: 'plain',
  link: 'text',
  comment: 'aside',
  quote: 'aside',
  doctag: 'aside',
  meta: 'aside',
  title: 'name',
  section: 'name',
  'selector-tag': 'name',
  'selector-class': 'name',
  'selector-id': 'name',
  name: 'name',
  tag: 'plain',
  type: 'type',
  class: 'type',
  built_in: 'type',
  attr: 'attr',
  attribute: 'attr',
  property: 'attr',
  variable: 'attr',
  'template-variable': 'attr',
  params: 'plain',
};

interface Node {
  type: string;
  value?: string;
  properties?: { className?: unknown };
  children?: Node[];
}

function lines(text: string, language: string): Piece[][] {
  const out: Piece[][] = [[]];
  const put = (value: string, kind: Piece[1]) => {
    value.split('\n').forEach((part, index) => {
      if (index > 0) out.push([]);
      if (part !== '') out.at(-1)?.push([part.length, kind]);
    });
  };
  const walk = (node: Node, kind: Piece[1]) => {
    if (node.type === 'text') {
      put(node.value ?? '', kind);
      return;
    }
    const classes = node.properties?.className;
    const first: unknown = Array.isArray(classes) ? classes[0] : undefined;
    const own = typeof first === 'string' ? kinds[first.replace(/^hljs-/, '')] : undefined;
    for (const child of node.children ?? []) walk(child, own ?? kind);
  };
  walk(lowlight.highlight(language, text), 'plain');
  return out;
}

onmessage = ({ data }: MessageEvent<Colour>) => {
  const answer: Coloured = {
    id: data.id,
    parts: lowlight.registered(data.language)
      ? data.parts.map((part) => ({
          old: lines(part.old, data.language),
          new: lines(part.new, data.language),
        }))
      : undefined,
  };
  postMessage(answer);
};
