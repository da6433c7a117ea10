/** A menu of actions behind a button. */
import { DropdownMenu } from 'radix-ui';
import type { ReactNode } from 'react';

export interface MenuItem {
  title: string;
  run: () => void;
  danger?: boolean;
  disabled?: boolean;
  /** Chosen of several. */
  checked?: boolean;
}

export function Menu({ trigger, items }: { trigger: ReactNode; items: readonly MenuItem[] }) {
  return (
    // Not modal: a modal one would add a style element, which the page's policy forbids.
    <DropdownMenu.Root modal={false}>
      <DropdownMenu.Trigger asChild>{trigger}</DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content
          align="end"
          sideOffset={4}
          collisionPadding={8}
          className="z-40 min-w-44 fade-in rounded-md bg-raised p-1 text-sm shadow-raised"
        >
          {items.map((item) => (
            <DropdownMenu.Item
              key={item.title}
              disabled={item.disabled ?? false}
              onSelect={item.run}
              className={`flex h-7 cursor-default items-center justify-between gap-4 rounded-sm px-2 outline-none select-none data-disabled:opacity-50 data-highlighted:bg-hover touch:h-11 ${item.danger ? 'text-danger' : ''}`}
            >
              {item.title}
              {item.checked && <span aria-label="chosen">✓</span>}
            </DropdownMenu.Item>
          ))}
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}
