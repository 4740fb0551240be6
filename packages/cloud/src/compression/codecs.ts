import { promisify } from 'node:util';
import {
  constants,
  createGunzip,
  createZstdDecompress,
  gunzip as gunzipCallback,
  type ZstdOptions,
  zstdDecompress as zstdDecompressCallback,
} from 'node:zlib';
import { ZstdFrameCutter } from './zstd-frames.ts';

const gunzip = promisify(gunzipCallback);
const zstdDecompress = promisify(zstdDecompressCallback);

/** A way in which senders compress. */
export interface Codec {
  name: 'gzip' | 'zstd';
  /** A stream that gives of an input cut short what there is, instead of an error. */
  createDecoder(chunkSize: number): ReturnType<typeof createGunzip>;
  /** Cuts a stream's input into pieces that its decoder must be given by themselves. */
  createCutter(): (chunk: Buffer) => Buffer[];
  /** All of a beginning of the data, also one that ends in the middle. Rejects when it is damaged, or grows too large. */
  decode(bytes: Buffer, maxOutputBytes: number): Promise<Buffer>;
}

const gzipOptions = { finishFlush: constants.Z_SYNC_FLUSH };

const zstdOptions: ZstdOptions = {
  finishFlush: constants.ZSTD_e_flush,
  // A frame names the window that its reader has to hold. 8 MiB is what RFC 9659 asks of both sides; the library's own
  // limit would let every connection take 128 MiB.
  params: { [constants.ZSTD_d_windowLogMax]: 23 },
};

export const gzip: Codec = {
  name: 'gzip',
  createDecoder: (chunkSize) => createGunzip({ ...gzipOptions, chunkSize }),
  createCutter: () => (chunk) => [chunk],
  decode: (bytes, maxOutputLength) => gunzip(bytes, { ...gzipOptions, maxOutputLength }),
};

export const zstd: Codec = {
  name: 'zstd',
  createDecoder: (chunkSize) => createZstdDecompress({ ...zstdOptions, chunkSize }),
  createCutter: () => {
    const cutter = new ZstdFrameCutter();
    return (chunk) => cutter.cut(chunk);
  },
  async decode(bytes, maxOutputBytes) {
    const frames: Buffer[] = [];
    let left = maxOutputBytes;
    for (const frame of new ZstdFrameCutter().cut(bytes)) {
      const decoded = await zstdDecompress(frame, { ...zstdOptions, maxOutputLength: left });
      frames.push(decoded);
      left = Math.max(1, left - decoded.length);
    }
    return Buffer.concat(frames);
  },
};

/** The codec of a `Content-Encoding`. */
export function codecOf(encoding: string): Codec | undefined {
  return [gzip, zstd].find(({ name }) => name === encoding);
}

/** The codec that some bytes begin like. */
export function codecOfBytes(bytes: Buffer): Codec | undefined {
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) return gzip;
  return bytes.length >= 4 && bytes.readUInt32LE(0) === 0xfd2fb528 ? zstd : undefined;
}
