//! The stick figure: where its joints are, and the solids around them.

use serde::Serialize;

use super::geometry::{Solid, Vec3};
use super::scene::{Arms, Body};

/// Thickness of arms and legs over the height.
const LIMB: f32 = 0.04;
/// Radius of the head over the height.
const HEAD: f32 = 0.115;

/// The joints; left and right are those of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Joints<P> {
    /// Middle of the head.
    pub head: P,
    /// Where the arms begin.
    pub neck: P,
    /// Where the legs begin.
    pub hip: P,
    /// Middle of the left arm.
    pub left_elbow: P,
    /// End of the left arm.
    pub left_hand: P,
    /// Middle of the right arm.
    pub right_elbow: P,
    /// End of the right arm.
    pub right_hand: P,
    /// Middle of the left leg.
    pub left_knee: P,
    /// End of the left leg.
    pub left_foot: P,
    /// Middle of the right leg.
    pub right_knee: P,
    /// End of the right leg.
    pub right_foot: P,
}

impl<P: Copy> Joints<P> {
    /// The same joints, each put through `change`.
    pub fn map<Q>(&self, change: impl Fn(P) -> Q) -> Joints<Q> {
        Joints {
            head: change(self.head),
            neck: change(self.neck),
            hip: change(self.hip),
            left_elbow: change(self.left_elbow),
            left_hand: change(self.left_hand),
            right_elbow: change(self.right_elbow),
            right_hand: change(self.right_hand),
            left_knee: change(self.left_knee),
            left_foot: change(self.left_foot),
            right_knee: change(self.right_knee),
            right_foot: change(self.right_foot),
        }
    }
}

/// The joints of a person who stands at `foot` and is `height` tall, facing the camera.
#[must_use]
pub fn joints(foot: Vec3, height: f32, body: &Body) -> Joints<Vec3> {
    let at = |x: f32, y: f32| foot.plus(Vec3::new(x * height, y * height, 0.0));
    let swing = body.swing * 0.03;
    let hand = |pose: Arms| match pose {
        Arms::Down => (0.19, 0.42 + swing),
        Arms::Out => (0.40, 0.70 + 2.0 * swing),
        Arms::Up | Arms::Waving => (0.27 + swing, 1.0),
    };
    let (left, right) = match (body.arms, body.mirrored) {
        (Arms::Waving, false) => (hand(Arms::Up), hand(Arms::Down)),
        (Arms::Waving, true) => (hand(Arms::Down), hand(Arms::Up)),
        (pose, _) => (hand(pose), hand(pose)),
    };
    let (neck, hip) = (at(0.0, 0.72), at(0.0, 0.42));
    let (left_hand, right_hand) = (at(-left.0, left.1), at(right.0, right.1));
    let (left_foot, right_foot) = (at(-body.stride, LIMB), at(body.stride, LIMB));
    let between = |a: Vec3, b: Vec3| a.plus(b).times(0.5);
    Joints {
        head: at(0.0, 0.885),
        neck,
        hip,
        left_elbow: between(neck, left_hand),
        left_hand,
        right_elbow: between(neck, right_hand),
        right_hand,
        left_knee: between(hip, left_foot),
        left_foot,
        right_knee: between(hip, right_foot),
        right_foot,
    }
}

/// The solids of a person: the head first, then what is clothed.
#[must_use]
pub fn solids(joints: &Joints<Vec3>, height: f32) -> [Solid; 6] {
    let limb = |from, to, thickness: f32| Solid::Capsule { from, to, radius: thickness * height };
    [
        Solid::Ball { centre: joints.head, radius: HEAD * height },
        limb(joints.neck, joints.hip, 2.0 * LIMB),
        limb(joints.neck, joints.left_hand, LIMB),
        limb(joints.neck, joints.right_hand, LIMB),
        limb(joints.hip, joints.left_foot, LIMB * 1.15),
        limb(joints.hip, joints.right_foot, LIMB * 1.15),
    ]
}
