export { FolderDisk } from './disk.ts';
export { type InspectedSegment, inspectJournal, readJournal, type SegmentReport } from './inspect.ts';
