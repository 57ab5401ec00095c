//! Canny's edge detector, as OpenCV's `Canny` of a colour picture with aperture 3 and the L1 norm computes it, in integers only.
//!
//! Each pixel takes the gradient of its steepest channel. No blur of its own: a caller with a noisy picture blurs first.

use crate::image::RgbImage;

/// OpenCV's tangent of 22.5 degrees in fixed point.
const TAN_22: i32 = 13_573;
const SHIFT: i32 = 15;

/// One byte a pixel, 255 on an edge and 0 elsewhere: gradients of at least `high` start an edge, those above `low` continue it.
///
/// Borders repeat the outermost pixels. The gradient is |dx| + |dy| of 3 by 3 Sobel filters, so it reaches 2040.
pub fn canny(image: &RgbImage, low: u32, high: u32) -> Vec<u8> {
    let (width, height) = (image.width as usize, image.height as usize);
    let gradients = sobel(&image.data, width, height);
    let mut edges = vec![0u8; width * height];
    let mut open = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let at = y * width + x;
            let strength = gradients[at].strength();
            if strength > low as i32 && is_ridge(&gradients, width, height, x, y) {
                edges[at] = 1;
                if strength > high as i32 {
                    edges[at] = 255;
                    open.push(at);
                }
            }
        }
    }
    while let Some(at) = open.pop() {
        let (x, y) = (at % width, at / width);
        for ny in y.saturating_sub(1)..(y + 2).min(height) {
            for nx in x.saturating_sub(1)..(x + 2).min(width) {
                let neighbour = &mut edges[ny * width + nx];
                if *neighbour == 1 {
                    *neighbour = 255;
                    open.push(ny * width + nx);
                }
            }
        }
    }
    for edge in &mut edges {
        *edge = if *edge == 255 { 255 } else { 0 };
    }
    edges
}

#[derive(Clone, Copy)]
struct Gradient {
    dx: i32,
    dy: i32,
}

impl Gradient {
    fn strength(self) -> i32 {
        self.dx.abs() + self.dy.abs()
    }
}

/// The gradient of each pixel's steepest channel, of the first of equals.
fn sobel(data: &[u8], width: usize, height: usize) -> Vec<Gradient> {
    let mut out = Vec::with_capacity(width * height);
    for y in 0..height {
        let rows = [y.saturating_sub(1), y, (y + 1).min(height - 1)].map(|y| y * width);
        for x in 0..width {
            let columns = [x.saturating_sub(1), x, (x + 1).min(width - 1)];
            let mut best = Gradient { dx: 0, dy: 0 };
            for channel in 0..3 {
                let at = |r: usize, c: usize| i32::from(data[(rows[r] + columns[c]) * 3 + channel]);
                let column = |c| at(0, c) + 2 * at(1, c) + at(2, c);
                let row = |r| at(r, 0) + 2 * at(r, 1) + at(r, 2);
                let gradient = Gradient { dx: column(2) - column(0), dy: row(2) - row(0) };
                if gradient.strength() > best.strength() {
                    best = gradient;
                }
            }
            out.push(best);
        }
    }
    out
}

/// Whether a pixel is a maximum across its edge. The first of two equal neighbours wins, so that lines stay one pixel wide.
fn is_ridge(gradients: &[Gradient], width: usize, height: usize, x: usize, y: usize) -> bool {
    let strength = |dx: isize, dy: isize| {
        let (x, y) = (x as isize + dx, y as isize + dy);
        if x < 0 || y < 0 || x >= width as isize || y >= height as isize {
            return 0;
        }
        gradients[y as usize * width + x as usize].strength()
    };
    let Gradient { dx, dy } = gradients[y * width + x];
    let here = strength(0, 0);
    let (ax, ay) = (i64::from(dx.abs()), i64::from(dy.abs()) << SHIFT);
    let flat = ax * i64::from(TAN_22);
    if ay < flat {
        return here > strength(-1, 0) && here >= strength(1, 0);
    }
    if ay > flat + (ax << (SHIFT + 1)) {
        return here > strength(0, -1) && here >= strength(0, 1);
    }
    let sign = if (dx < 0) == (dy < 0) { 1 } else { -1 };
    here > strength(-sign, -1) && here > strength(sign, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32, value: impl Fn(u32, u32) -> u8) -> RgbImage {
        let mut image = RgbImage::new(width, height);
        for y in 0..height {
            for x in 0..width {
                let at = ((y * width + x) * 3) as usize;
                image.data[at..at + 3].fill(value(x, y));
            }
        }
        image
    }

    #[test]
    fn a_step_is_a_line_one_pixel_wide() {
        let edges = canny(&picture(8, 6, |x, _| if x < 4 { 20 } else { 200 }), 100, 200);
        let row = [0, 0, 0, 255, 0, 0, 0, 0];
        assert!(edges.chunks(8).all(|r| r == row), "{edges:?}");
        let edges = canny(&picture(6, 8, |_, y| if y < 4 { 20 } else { 200 }), 100, 200);
        assert_eq!(edges.iter().filter(|e| **e == 255).count(), 6);
        assert!(edges[18..24].iter().all(|e| *e == 255), "{edges:?}");
    }

    #[test]
    fn a_weak_edge_lives_only_beside_a_strong_one() {
        // A step of 40 gives a gradient of 160: between the two thresholds.
        let weak = picture(8, 8, |x, _| if x < 4 { 20 } else { 60 });
        assert!(canny(&weak, 100, 200).iter().all(|e| *e == 0));
        let joined = picture(8, 8, |x, y| match (x < 4, y < 3) {
            (true, _) => 20,
            (false, true) => 220,
            (false, false) => 60,
        });
        let edges = canny(&joined, 100, 200);
        assert_eq!(edges[7 * 8 + 3], 255, "{edges:?}");
        assert!(canny(&weak, 100, 159).contains(&255));
    }

    #[test]
    fn a_flat_picture_has_no_edges() {
        assert!(canny(&picture(5, 5, |_, _| 77), 1, 2).iter().all(|e| *e == 0));
    }
}
