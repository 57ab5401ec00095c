//! Crops and fits beyond what the fixtures hold.

use super::{Noise, photo};
use nightshift_engine::image::resample::{Filter, Window, resize, resize_window};
use nightshift_engine::image::{
    Border, Mode, RawImage, Rect, center_crop, crop_sizes, fit, var_center_crop,
};

fn raw(width: u32, height: u32, mode: Mode) -> RawImage {
    let mut noise = Noise(u64::from(width * 7 + height));
    let data = (0..width as usize * height as usize * mode.channels())
        .map(|_| noise.next() as u8)
        .collect();
    RawImage::plain(width, height, mode, data)
}

#[test]
fn a_window_is_the_same_as_resizing_and_cutting() {
    for mode in [Mode::Gray, Mode::Rgb, Mode::Rgba, Mode::GrayAlpha, Mode::Palette] {
        for (w, h) in [(31, 50), (17, 23), (40, 23), (17, 61)] {
            let source = raw(17, 23, mode);
            let whole = resize(&source, w, h, Filter::Bicubic);
            let window = Window { left: 3, top: 5, width: w - 7, height: h - 8 };
            let part = resize_window(&source, w, h, Filter::Bicubic, window);
            assert_eq!(part, whole.window(3, 5, w - 7, h - 8), "{mode:?} to {w}x{h}");
        }
    }
}

#[test]
fn a_crop_covers_the_target_and_says_what_it_shows() {
    for (w, h) in [(400, 100), (100, 400), (64, 64), (65, 64), (1, 1), (1, 190)] {
        let (cropped, place) = center_crop(&raw(w, h, Mode::Rgb), 64, 32);
        assert_eq!((cropped.width, cropped.height), (64, 32));
        assert_eq!(place.panel, Rect { x: 0, y: 0, width: 64, height: 32 });
        let shown = place.source;
        assert!(
            shown.width >= 1 && shown.x + shown.width <= w && shown.y + shown.height <= h,
            "{shown:?} in {w}x{h}"
        );
    }
    let (_, place) = center_crop(&raw(400, 100, Mode::Rgb), 64, 32);
    assert_eq!(place.source, Rect { x: 100, y: 0, width: 200, height: 100 });
}

#[test]
fn a_narrow_picture_needs_no_memory_beyond_its_crop() {
    // Scaled to cover, this would be 768 x 153,600 pixels.
    let (cropped, _) = center_crop(&raw(5, 1000, Mode::Rgb), 768, 768);
    assert_eq!(cropped.data.len(), 768 * 768 * 3);
}

#[test]
fn padding_keeps_the_whole_picture_and_restoring_gives_its_size_back() {
    let source = RawImage::from_rgb(photo(200, 100).into());
    let (panel, place) = fit::pad(&source, 64, 64, Border::White);
    assert_eq!(place.panel, Rect { x: 0, y: 16, width: 64, height: 32 });
    assert_eq!(panel.data[..3], [255, 255, 255]);
    let (edge, _) = fit::pad(&source, 64, 64, Border::Edge);
    assert_eq!(edge.data[..3], edge.data[16 * 64 * 3..][..3]);
    let back = fit::restore(&panel, &place);
    assert_eq!((back.width, back.height), (200, 100));
    let (small, place) = fit::pad(&RawImage::from_rgb(photo(64, 64).into()), 64, 64, Border::White);
    assert_eq!(fit::restore(&small, &place), small, "nothing to cut, nothing to scale");
}

#[test]
fn targets_below_one_patch_have_no_crop() {
    assert!(crop_sizes(31, 32).is_empty());
    assert!(var_center_crop(&raw(8, 8, Mode::Rgb), 31, 32).is_none());
}

#[test]
fn palette_pictures_keep_their_colours() {
    let mut source = raw(90, 70, Mode::Palette);
    source.data.iter_mut().for_each(|index| *index %= 3);
    source.palette = vec![[1, 1, 1, 255], [2, 2, 2, 255], [3, 3, 3, 255]];
    let (cropped, _) = fit::center_crop(&source, 32, 32);
    assert!(cropped.data.iter().all(|&c| (1..=3).contains(&c)), "indices are never blended");
}
