/** The task that a page is about, for the tabs inside its frame. Always the newest state of it. */
import { createContext, useContext } from 'react';
import type { TaskView } from '../api';

export const TaskContext = createContext<TaskView | undefined>(undefined);

/** Only below `Frame`. */
export function useThisTask(): TaskView {
  const view = useContext(TaskContext);
  if (!view) throw new Error('a tab of a task is shown outside its frame');
  return view;
}
