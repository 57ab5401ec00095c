//! Scenes as files: `scenes.jsonl` and one NumPy stack a panel, written as they are made.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::sample::{PANELS, Sample};
use super::scene::SIDE;

/// An open folder of scenes.
#[derive(Debug)]
pub struct Store {
    lines: BufWriter<File>,
    panels: Vec<BufWriter<File>>,
    depth: BufWriter<File>,
}

impl Store {
    /// Creates the files for `count` scenes in a folder that exists.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(dir: &Path, count: u64) -> std::io::Result<Self> {
        let open =
            |name: &str| Ok::<_, std::io::Error>(BufWriter::new(File::create(dir.join(name))?));
        let stack = |name: &str, dtype: &str, shape: &[u64]| {
            let mut file = open(&format!("{name}.npy"))?;
            file.write_all(&header(dtype, shape))?;
            Ok::<_, std::io::Error>(file)
        };
        let side = SIDE as u64;
        let panels = PANELS.iter().map(|name| stack(name, "|u1", &[count, side, side, 3]));
        Ok(Self {
            lines: open("scenes.jsonl")?,
            panels: panels.collect::<std::io::Result<_>>()?,
            depth: stack("depth_m", "<f4", &[count, side, side])?,
        })
    }

    /// Writes the next scene.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn push(&mut self, sample: &Sample) -> std::io::Result<()> {
        writeln!(self.lines, "{}", sample.line())?;
        for (file, name) in self.panels.iter_mut().zip(PANELS) {
            file.write_all(sample.panel(name).as_raw())?;
        }
        let depth: Vec<u8> = sample.drawn.depth.iter().flat_map(|d| d.to_le_bytes()).collect();
        self.depth.write_all(&depth)
    }

    /// Writes what is still in memory.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn finish(mut self) -> std::io::Result<()> {
        self.lines.flush()?;
        self.depth.flush()?;
        self.panels.iter_mut().try_for_each(Write::flush)
    }
}

/// The head of a NumPy file, version 1.0, padded so that the data begins at a multiple of 64 bytes.
fn header(dtype: &str, shape: &[u64]) -> Vec<u8> {
    let sizes: Vec<String> = shape.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({}), }}",
        sizes.join(", ")
    );
    let padded = (text.len() + 11).next_multiple_of(64) - 11;
    text.extend(std::iter::repeat_n(' ', padded - text.len()));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_numpy() {
        let bytes = header("|u1", &[12, 64, 64, 3]);
        assert_eq!(bytes.len() % 64, 0);
        assert_eq!(usize::from(u16::from_le_bytes([bytes[8], bytes[9]])), bytes.len() - 10);
        let text = String::from_utf8_lossy(&bytes[10..]).into_owned();
        assert!(
            text.starts_with(
                "{'descr': '|u1', 'fortran_order': False, 'shape': (12, 64, 64, 3), }"
            ),
            "{text}"
        );
        assert!(text.ends_with('\n'));
    }
}
