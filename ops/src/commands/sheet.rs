//! `sheet`: a contact sheet of a job's pictures.

mod font;

use std::path::Path;

use anyhow::Context as _;
use image::imageops::{FilterType, overlay, resize, thumbnail};
use image::{ImageFormat, ImageReader, Limits, Rgb, RgbImage};
use nightshift_engine::image::png::read_texts;
use nightshift_objects::{Objects, S3Uri};
use nightshift_store::{OutputView, Store};

use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// The largest picture that is read, in bytes.
const MAX_BYTES: u64 = 256 << 20;
/// Space around cells, in pixels.
const GAP: u32 = 6;
/// Height of a line below a picture, in pixels.
const LINE: u32 = font::HEIGHT + 2;
/// Lines below a picture: its name, then its caption.
const LINES: usize = 4;
/// Height of the text below a picture, in pixels.
const LABEL: u32 = LINE * LINES as u32 + 2;
const PAPER: Rgb<u8> = Rgb([250, 250, 250]);
const INK: Rgb<u8> = Rgb([40, 40, 40]);

/// Layout of a sheet.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Pictures in a row.
    pub columns: u32,
    /// Side of a cell, in pixels.
    pub cell: u32,
    /// At most this many pictures.
    pub limit: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { columns: 6, cell: 192, limit: 120 }
    }
}

/// Makes the sheet of a job.
///
/// # Errors
/// There is no such job, it has no pictures yet, or they cannot be read.
pub async fn run(context: Context, job: i64, out: &Path, shape: Shape) -> anyhow::Result<Exit> {
    let store = connect::store(&context.config, "nightshift sheet").await?;
    let objects = connect::objects(&context.config).await?;
    let count = write(&store, &objects, job, out, shape).await?;
    context.ui.note(&format!("{}: {count} pictures", out.display()));
    Ok(Exit::Ok)
}

/// Writes the sheet; returns how many pictures are on it.
///
/// # Errors
/// The job has no pictures, one of them cannot be read, or the file cannot be written.
pub async fn write(
    store: &Store,
    objects: &Objects,
    job: i64,
    out: &Path,
    shape: Shape,
) -> anyhow::Result<usize> {
    let dest = store.job(job).await?.dest.unwrap_or_default();
    let mut cells = Vec::new();
    for outputs in pictures(store, job, shape.limit).await? {
        let mut pictures = Vec::new();
        let mut caption = String::new();
        for output in &outputs {
            let uri: S3Uri = output.uri.parse().map_err(nightshift_objects::Error::from)?;
            let got = objects.get(&uri, MAX_BYTES, None).await?;
            pictures.push(decode(&got.body).with_context(|| output.uri.clone())?);
            if pictures.len() == 1 {
                caption = caption_of(&got.body);
            }
        }
        let room = shape.cell / font::ADVANCE;
        let mut lines = vec![label(&dest, &outputs[0])];
        lines.extend(wrap(&caption, room as usize));
        cells.push((lines, fitted(&beside(&pictures), shape.cell)));
    }
    if cells.is_empty() {
        let message = format!("job {job} has no pictures yet");
        return Err(Failure::new(Exit::NotFound, message)
            .help(format!("`nightshift describe {job}` shows its state"))
            .into());
    }
    compose(&cells, shape)
        .save_with_format(out, ImageFormat::Png)
        .with_context(|| format!("cannot write {}", out.display()))?;
    Ok(cells.len())
}

/// The PNG files of each item, by item.
async fn pictures(store: &Store, job: i64, limit: usize) -> anyhow::Result<Vec<Vec<OutputView>>> {
    let mut pictures: Vec<Vec<OutputView>> = Vec::new();
    let mut after = -1;
    loop {
        let page = store.outputs(job, after, 500).await?;
        let Some(last) = page.last() else {
            return Ok(pictures);
        };
        after = last.index;
        for output in page.into_iter().filter(|o| o.uri.ends_with(".png")) {
            let index = output.index;
            if let Some(item) = pictures.last_mut().filter(|item| item[0].index == index) {
                item.push(output);
            } else if pictures.len() < limit {
                pictures.push(vec![output]);
            } else {
                return Ok(pictures);
            }
        }
    }
}

fn decode(bytes: &[u8]) -> anyhow::Result<RgbImage> {
    let mut reader = ImageReader::with_format(std::io::Cursor::new(bytes), ImageFormat::Png);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    Ok(reader.decode()?.to_rgb8())
}

/// What the picture says it shows; nothing where the prompt was left out of the file.
fn caption_of(png: &[u8]) -> String {
    let texts = read_texts(png);
    let facts = texts.iter().find(|text| text.key == "nightshift");
    let facts: serde_json::Value =
        facts.and_then(|text| serde_json::from_str(&text.value).ok()).unwrap_or_default();
    facts["caption"].as_str().unwrap_or_default().to_owned()
}

/// Lines of at most `room` letters, broken at spaces, as many as fit below a picture.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.truncate(LINES - 1);
    lines
}

/// The pictures of an item side by side, each as high as the highest.
fn beside(pictures: &[RgbImage]) -> RgbImage {
    let height = pictures.iter().map(RgbImage::height).max().unwrap_or(1);
    let scaled: Vec<RgbImage> = pictures
        .iter()
        .map(|picture| {
            let width = u64::from(picture.width()) * u64::from(height);
            let width = width / u64::from(picture.height().max(1));
            resize(picture, width.max(1) as u32, height, FilterType::Nearest)
        })
        .collect();
    let width = scaled.iter().map(RgbImage::width).sum();
    let mut row = RgbImage::new(width, height);
    let mut x = 0;
    for picture in &scaled {
        overlay(&mut row, picture, x, 0);
        x += i64::from(picture.width());
    }
    row
}

/// Index, partitions and file name.
fn label(dest: &str, output: &OutputView) -> String {
    let key = output.uri.strip_prefix(dest).unwrap_or(&output.uri);
    let key = key.strip_prefix("data/").unwrap_or(key);
    format!("{} {}", output.index, key.trim_end_matches(".png"))
}

/// Fits a picture into a cell; the pixels of a small one stay visible.
fn fitted(picture: &RgbImage, cell: u32) -> RgbImage {
    let side = picture.width().max(picture.height()).max(1);
    let scaled = |n: u32| (u64::from(n) * u64::from(cell) / u64::from(side)).max(1) as u32;
    let (width, height) = (scaled(picture.width()), scaled(picture.height()));
    if side < cell {
        return resize(picture, width, height, FilterType::Nearest);
    }
    thumbnail(picture, width, height)
}

fn compose(cells: &[(Vec<String>, RgbImage)], shape: Shape) -> RgbImage {
    let count = u32::try_from(cells.len()).expect("the limit of pictures is small");
    let columns = shape.columns.min(count).max(1);
    let rows = count.div_ceil(columns);
    let (step_x, step_y) = (shape.cell + GAP, shape.cell + LABEL + GAP);
    let mut sheet = RgbImage::from_pixel(columns * step_x + GAP, rows * step_y + GAP, PAPER);
    for (n, (lines, picture)) in (0..).zip(cells) {
        let (x, y) = (GAP + n % columns * step_x, GAP + n / columns * step_y);
        let (dx, dy) = ((shape.cell - picture.width()) / 2, (shape.cell - picture.height()) / 2);
        overlay(&mut sheet, picture, i64::from(x + dx), i64::from(y + dy));
        for (line, text) in (0..).zip(lines) {
            let y = y + shape.cell + 3 + line * LINE;
            font::write(&mut sheet, x, y, shape.cell, text, INK);
        }
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_keep_their_shape_and_their_place() {
        let wide = fitted(&RgbImage::from_pixel(64, 32, Rgb([255, 0, 0])), 16);
        let tall = fitted(&RgbImage::from_pixel(8, 32, Rgb([0, 255, 0])), 16);
        assert_eq!((wide.dimensions(), tall.dimensions()), ((16, 8), (4, 16)));
        let shape = Shape { columns: 2, cell: 16, limit: 9 };
        let cells = vec![
            (vec!["0".to_owned(), "ab".to_owned()], wide),
            (vec!["1".to_owned()], tall.clone()),
            (vec!["2".to_owned()], tall),
        ];
        let sheet = compose(&cells, shape);
        assert_eq!(sheet.dimensions(), (2 * 22 + 6, 2 * (16 + LABEL + 6) + 6));
        assert_eq!(*sheet.get_pixel(6 + 8, 6 + 8), Rgb([255, 0, 0]));
        assert_eq!(*sheet.get_pixel(6 + 8, 6 + 1), PAPER);
        assert_eq!(*sheet.get_pixel(28 + 8, 6 + 8), Rgb([0, 255, 0]));
        let label = sheet.view_of(6, 6 + 16, 16, LABEL);
        assert!(label.contains(&INK), "the label is written");
        let second = |x| sheet.view_of(x, 6 + 16 + 3 + LINE, 16, LINE).contains(&INK);
        assert!(second(6) && !second(28), "one of them has two lines");
    }

    #[test]
    fn captions_break_at_spaces_and_pictures_stand_side_by_side() {
        assert_eq!(wrap("a large  blue ball", 7), ["a large", "blue", "ball"]);
        assert_eq!(wrap("a b c d", 1).len(), LINES - 1);
        let row = beside(&[
            RgbImage::from_pixel(4, 8, Rgb([255, 0, 0])),
            RgbImage::from_pixel(4, 4, Rgb([0, 255, 0])),
        ]);
        assert_eq!(row.dimensions(), (12, 8));
        assert_eq!(*row.get_pixel(3, 7), Rgb([255, 0, 0]));
        assert_eq!(*row.get_pixel(4, 7), Rgb([0, 255, 0]));
    }

    trait ViewOf {
        fn view_of(&self, x: u32, y: u32, width: u32, height: u32) -> Vec<Rgb<u8>>;
    }

    impl ViewOf for RgbImage {
        fn view_of(&self, x: u32, y: u32, width: u32, height: u32) -> Vec<Rgb<u8>> {
            (y..y + height)
                .flat_map(|y| (x..x + width).map(move |x| (x, y)))
                .map(|(x, y)| *self.get_pixel(x, y))
                .collect()
        }
    }
}
