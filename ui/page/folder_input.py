"""A folder of the visitor's, dropped or chosen: the browser packs its pictures into ZIPs.

Gradio takes no folder that is dropped, and of one that is chosen it forgets in which subfolder each
file lay, which is its class. Whatever reads a ZIP here knows them. Pictures to learn from are made
smaller where they are too large together: a network is shown less of them anyway.
"""

from __future__ import annotations

import gradio as gr

from whylens.core.batch.listing import PICTURES
from whylens.core.inputs.photo import ImageLimits
from whylens.ui.page import html

# The most that is looked at: whoever drops a whole disk is not kept waiting for its end.
MOST_SEEN = 20_000
# Shorter sides, in pixels, that pictures are scaled down to, one after the other until they fit.
SIDES = (512, 256)
FOLDER_JS = r"""
const {give, endings, most, bytes, seen, several, sides} = JSON.parse(
  element.querySelector('[data-folder]').dataset.folder);
const said = element.querySelector('[role=status]');
const clear = '[aria-label="Clear"], [aria-label="common.clear"]';
const box = () => document.getElementById(give);
const table = Uint32Array.from({length: 256}, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xEDB88320 ^ (n >>> 1) : n >>> 1;
  return n;
});
const checksum = content => {
  let crc = -1;
  for (const byte of content) crc = table[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
};
// Numbers of two or four bytes, the lowest first.
const packed = (...pairs) => {
  const view = new DataView(new ArrayBuffer(pairs.reduce((sum, [size]) => sum + size, 0)));
  let at = 0;
  for (const [size, value] of pairs) {
    size === 2 ? view.setUint16(at, value, true) : view.setUint32(at, value, true);
    at += size;
  }
  return view;
};
// Stored as they are: pictures are compressed already. Names are UTF-8.
const zip = async (files, name) => {
  const parts = [], list = [];
  let offset = 0, listed = 0;
  for (const {path, file} of files) {
    const bytesOfName = new TextEncoder().encode(path);
    const content = new Uint8Array(await file.arrayBuffer()), size = content.length;
    const about = packed([2, 20], [2, 0x800], [2, 0], [2, 0], [2, 0x21], [4, checksum(content)],
      [4, size], [4, size], [2, bytesOfName.length], [2, 0]);
    parts.push('PK\x03\x04', about, bytesOfName, content);
    list.push(packed([4, 0x02014b50], [2, 20]), about,
      packed([2, 0], [2, 0], [2, 0], [4, 0], [4, offset]), bytesOfName);
    offset += 30 + bytesOfName.length + size;
    listed += 46 + bytesOfName.length;
  }
  const end = packed([4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length],
    [4, listed], [4, offset], [2, 0]);
  return new File([...parts, ...list, end], name, {type: 'application/zip'});
};
// As a JPEG whose shorter side has so many pixels, upright and on white, where that is smaller.
const scaled = async ({path, file}, side) => {
  const picture = await createImageBitmap(file).catch(() => null);  // of a kind no browser knows
  const share = picture ? side / Math.min(picture.width, picture.height) : 1;
  if (share >= 1) {
    picture?.close();
    return {path, file};
  }
  const size = [picture.width, picture.height].map(length => Math.round(length * share));
  const canvas = new OffscreenCanvas(...size), context = canvas.getContext('2d');
  context.fillStyle = 'white';
  context.fillRect(0, 0, ...size);
  context.imageSmoothingQuality = 'high';
  context.drawImage(picture, 0, 0, ...size);
  picture.close();
  const jpeg = await canvas.convertToBlob({type: 'image/jpeg', quality: 0.92});
  if (jpeg.size >= file.size) return {path, file};
  return {path: /[.]jpe?g$/i.test(path) ? path : path + '.jpg', file: jpeg};
};
const sum = files => files.reduce((size, {file}) => size + file.size, 0);
const megabytes = size => (size / 1e6).toFixed(0) + ' MB';
const take = async (name, found, cut) => {
  const ending = ({path}) => '.' + path.split('.').pop().toLowerCase();
  const pictures = found.filter(file => endings.includes(ending(file)));
  pictures.sort((a, b) => a.path < b.path ? -1 : 1);
  let sent = pictures;
  for (const side of several ? [] : sides) {
    if (sum(sent) <= bytes) break;
    sent = [];
    for (const picture of pictures) {
      said.textContent =
        `Making the pictures of ${name} smaller: ${sent.length + 1} of ${pictures.length} ...`;
      sent.push(await scaled(picture, side));
    }
  }
  const fit = sent.filter(({file}) => file.size <= bytes), chosen = fit.slice(0, most);
  const total = sum(chosen), smaller = sum(sent) < sum(pictures);
  const [from, to] = [sum(pictures), sum(sent)].map(megabytes);
  const left = [
    [found.length - pictures.length, 'no pictures'],
    [pictures.length - fit.length, 'larger than ' + megabytes(bytes)],
    [fit.length - chosen.length, `beyond the first ${most}`],
  ].filter(([count]) => count).map(([count, why]) => `${count} left out: ${why}.`)
    .concat(smaller ? [`They were made smaller to be sent: ${from}, now ${to}.`] : [])
    .concat(cut ? [`Only the first ${seen} files were looked at.`] : []).join(' ');
  if (!chosen.length) { said.textContent = `There are no pictures in ${name}. ${left}`; return; }
  if (!several && total > bytes) {
    const already = smaller ? ', made smaller already' : '';
    said.textContent = `${name} holds ${megabytes(total)} of pictures${already};
      ${megabytes(bytes)} can be given so. Give fewer.`;
    return;
  }
  said.textContent = `Reading ${name} ...`;
  const groups = [[]];
  let room = bytes;
  for (const file of chosen) {
    if (file.file.size > room) { groups.push([]); room = bytes; }
    groups[groups.length - 1].push(file);
    room -= file.file.size;
  }
  const given = new DataTransfer();
  for (const [i, group] of groups.entries())
    given.items.add(await zip(group, name + (groups.length > 1 ? ` part ${i + 1}` : '') + '.zip'));
  // A place for one file has none for another until it is cleared.
  if (!several) box().querySelector(clear)?.click();
  const pictured = chosen.length === 1 ? '1 picture' : `${chosen.length} pictures`;
  said.textContent = `${pictured} of ${name}. ${left}`.trim();
  let input = null;
  for (let i = 0; i < 60 && !(input = box().querySelector('input[type=file]')); i++)
    await new Promise(done => requestAnimationFrame(done));
  input.parentElement.dispatchEvent(new Event('dragleave'));  // else the place stays lit
  input.files = given.files;
  input.dispatchEvent(new Event('change'));
};
const failed = error => { said.textContent = `That folder cannot be read: ${error.message}`; };
const walk = async (entry, found) => {
  if (entry.name.startsWith('.') || found.length >= seen) return;
  if (entry.isFile) {
    const file = await new Promise((done, fail) => entry.file(done, fail));
    found.push({path: entry.fullPath.slice(1), file});
    return;
  }
  const reader = entry.createReader();
  let some;
  do {  // a hundred at a time
    some = await new Promise((done, fail) => reader.readEntries(done, fail));
    for (const inner of some) await walk(inner, found);
  } while (some.length && found.length < seen);
};
// What is dropped on the list of files given already would else be opened in place of this page.
document.addEventListener('dragover', event => {
  if (event.target.closest?.('#' + give)) event.preventDefault();
}, true);
document.addEventListener('click', event => {
  if (event.target.closest?.(`#${give} :is(${clear})`)) said.textContent = '';
}, true);
document.addEventListener('drop', event => {
  if (!event.target.closest?.('#' + give)) return;
  const entries = [...event.dataTransfer?.items ?? []].map(item => item.webkitGetAsEntry?.());
  const folder = entries.find(entry => entry?.isDirectory);
  event.preventDefault();
  if (!folder) return;
  event.stopImmediatePropagation();
  const found = [];
  said.textContent = `Reading ${folder.name} ...`;
  (async () => {
    for (const entry of entries) if (entry) await walk(entry, found);
    await take(folder.name, found, found.length >= seen);
  })().catch(failed);
}, true);
element.addEventListener('click', event => {
  if (!event.target.closest('[data-folder]')) return;
  const input = document.createElement('input');
  Object.assign(input, {type: 'file', webkitdirectory: true, multiple: true});
  input.addEventListener('change', () => {
    const found = [...input.files].slice(0, seen).map(
      file => ({path: file.webkitRelativePath || file.name, file}));
    const shown = found.filter(({path}) => !path.split('/').some(part => part.startsWith('.')));
    if (found.length) {
      const name = found[0].path.split('/')[0];
      take(name, shown, input.files.length > seen).catch(failed);
    }
  });
  input.click();
});
"""


def build_folder_input(files: str, *, most: int, several: bool) -> gr.HTML:
    """Return what lets a place for files take folders, built in the open column.

    It says which pictures were taken, and what was left out.

    Args:
        files: Element id of the place, which takes ZIPs.
        most: How many pictures are taken at most.
        several: Whether the place takes several files; the pictures of a folder larger than one
            file may be are else made smaller, and the folder is refused where that is not enough.
    """
    settings = {
        "give": files,
        "endings": sorted(PICTURES),
        "most": most,
        "bytes": ImageLimits().bytes,
        "seen": MOST_SEEN,
        "several": several,
        "sides": SIDES,
    }
    return gr.HTML(
        html.render("pieces", "folder_input", settings=settings),
        elem_id=f"{files}-folder",
        js_on_load=FOLDER_JS,
        padding=False,
    )
