// A ZIP of image files, stored without compression: they are compressed already.

const table = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

function crc32(bytes) {
  let sum = ~0;
  for (const byte of bytes) sum = (sum >>> 8) ^ table[(sum ^ byte) & 255];
  return ~sum >>> 0;
}

// `files`: [{name, blob}]. Equal names are numbered.
export async function zip(files) {
  const pieces = [];
  const directory = [];
  const now = new Date();
  const time = (now.getHours() << 11) | (now.getMinutes() << 5) | (now.getSeconds() >> 1);
  const date = (Math.max(0, now.getFullYear() - 1980) << 9) | ((now.getMonth() + 1) << 5) | now.getDate();
  let offset = 0;
  for (const { name, blob } of withUniqueNames(files)) {
    const bytes = new Uint8Array(await blob.arrayBuffer());
    const encodedName = new TextEncoder().encode(name);
    // Version 2.0, names in UTF-8, stored.
    const common = [[20, 2], [0x800, 2], [0, 2], [time, 2], [date, 2], [crc32(bytes), 4], [bytes.length, 4], [bytes.length, 4], [encodedName.length, 2], [0, 2]];
    const local = record([[0x04034b50, 4], ...common]);
    // Made on Unix: a regular file of mode 0644.
    directory.push(record([[0x02014b50, 4], [0x314, 2], ...common, [0, 2], [0, 2], [0, 2], [0o100644 * 0x10000, 4], [offset, 4]]), encodedName);
    pieces.push(local, encodedName, bytes);
    offset += local.length + encodedName.length + bytes.length;
  }
  const size = directory.reduce((sum, piece) => sum + piece.length, 0);
  const count = files.length;
  const end = record([[0x06054b50, 4], [0, 2], [0, 2], [count, 2], [count, 2], [size, 4], [offset, 4], [0, 2]]);
  return new Blob([...pieces, ...directory, end], { type: "application/zip" });
}

function withUniqueNames(files) {
  const used = new Set();
  return files.map(({ name, blob }) => {
    let unique = name;
    for (let n = 2; used.has(unique.toLowerCase()); n++) unique = name.replace(/(\.[^.]*)$/, `-${n}$1`);
    used.add(unique.toLowerCase());
    return { name: unique, blob };
  });
}

// Little-endian numbers: [[value, bytes], ...].
function record(fields) {
  return Uint8Array.from(fields.flatMap(([value, count]) => Array.from({ length: count }, (_, i) => (value >>> (8 * i)) & 255)));
}
