//! The colours of everything, in 8-bit sRGB.

use super::scene::{Backdrop, Colour, Shape, Time};

/// Red, green, blue.
pub type Rgb = [u8; 3];

/// Of a person's head.
pub const SKIN: Rgb = [140, 92, 64];

/// How much light a surface gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Light {
    /// Turned towards the lamp: a fifth of the way to white.
    Bright,
    /// The colour itself.
    Plain,
    /// Turned away: 0.68 of it.
    Dim,
}

impl Light {
    /// The levels, brightest first.
    pub const ALL: [Self; 3] = [Self::Bright, Self::Plain, Self::Dim];

    fn of(self, colour: Rgb) -> Rgb {
        colour.map(|c| match self {
            Self::Bright => c + scaled(255 - c, 54),
            Self::Plain => c,
            Self::Dim => scaled(c, 174),
        })
    }
}

fn scaled(c: u8, of_256: u16) -> u8 {
    ((u16::from(c) * of_256 + 128) >> 8) as u8
}

/// A colour of the palette in full light.
#[must_use]
pub fn rgb(colour: Colour) -> Rgb {
    match colour {
        Colour::Red => [222, 36, 40],
        Colour::Orange => [246, 132, 12],
        Colour::Yellow => [250, 222, 30],
        Colour::Green => [36, 164, 62],
        Colour::Cyan => [10, 192, 198],
        Colour::Blue => [48, 104, 240],
        Colour::Purple => [160, 62, 206],
    }
}

/// What a surface of `colour` shows at that time of day.
#[must_use]
pub fn lit(colour: Rgb, light: Light, time: Time) -> Rgb {
    let strength = match time {
        Time::Day => 256,
        Time::Dusk => 238,
        Time::Night => 224,
    };
    light.of(colour).map(|c| scaled(c, strength))
}

/// The sky; `high` is its upper half.
#[must_use]
pub fn sky(backdrop: Backdrop, high: bool) -> Rgb {
    match backdrop {
        Backdrop::Plain => [230, 230, 226],
        Backdrop::Outdoors(Time::Day) => [156, 208, 250],
        Backdrop::Outdoors(Time::Dusk) if high => [132, 112, 160],
        Backdrop::Outdoors(Time::Dusk) => [244, 188, 152],
        Backdrop::Outdoors(Time::Night) => [18, 20, 52],
    }
}

/// The ground, or the shadow of something on it.
#[must_use]
pub fn ground(backdrop: Backdrop, shadow: bool) -> Rgb {
    let colour = match backdrop {
        Backdrop::Plain => sky(backdrop, false),
        Backdrop::Outdoors(Time::Day) => [218, 208, 186],
        Backdrop::Outdoors(Time::Dusk) => [152, 130, 130],
        Backdrop::Outdoors(Time::Night) => [50, 54, 82],
    };
    if shadow { colour.map(|c| scaled(c, 212)) } else { colour }
}

/// The class of a segmentation map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Above the horizon.
    Sky,
    /// Below it.
    Ground,
    /// Something of this shape.
    Of(Shape),
}

/// The colour of a class in a segmentation map.
#[must_use]
pub fn class(class: Class) -> Rgb {
    match class {
        Class::Sky => [70, 130, 180],
        Class::Ground => [128, 64, 128],
        Class::Of(Shape::Ball) => [220, 20, 60],
        Class::Of(Shape::Box) => [250, 170, 30],
        Class::Of(Shape::Cone) => [107, 190, 35],
        Class::Of(Shape::Cylinder) => [0, 220, 220],
        Class::Of(Shape::Person) => [250, 250, 250],
    }
}
