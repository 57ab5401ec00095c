//! The law of every sum: eight lanes, one tree.
//!
//! Lane `l` takes the elements with index `l` modulo 8, in ascending order, each by one fused multiply-add into a lane that
//! starts at +0; missing elements of the last group of eight count as zeros. Then [`tree`] adds the lanes. All kernels on
//! every instruction set follow it, so a result depends on its own operands only.

/// The number of accumulator lanes of every sum.
pub(crate) const LANES: usize = 8;

/// Adds eight lanes in the one stated order: `((0+4) + (2+6)) + ((1+5) + (3+7))`.
#[inline(always)]
pub(crate) fn tree(lanes: [f32; LANES]) -> f32 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// `acc[l] += x[l] * y[l]` in each lane, fused; short slices are padded with zeros.
#[inline(always)]
pub(crate) fn fma_lanes(acc: &mut [f32; LANES], x: &[f32], y: &[f32]) {
    for (l, sum) in acc.iter_mut().enumerate() {
        let a = x.get(l).copied().unwrap_or(0.0);
        let b = y.get(l).copied().unwrap_or(0.0);
        *sum = a.mul_add(b, *sum);
    }
}

/// Dot product by the law; the reference for all kernels.
#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut acc = [0.0; LANES];
    let (x8, x_tail) = x.as_chunks::<LANES>();
    let (y8, y_tail) = y.as_chunks::<LANES>();
    for (a, b) in x8.iter().zip(y8) {
        for l in 0..LANES {
            acc[l] = a[l].mul_add(b[l], acc[l]);
        }
    }
    if !x_tail.is_empty() {
        fma_lanes(&mut acc, x_tail, y_tail);
    }
    tree(acc)
}

/// Sum of `f(x)` by the law.
#[inline(always)]
pub(crate) fn sum_of(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut acc = [0.0; LANES];
    let (x8, tail) = x.as_chunks::<LANES>();
    for a in x8 {
        for l in 0..LANES {
            acc[l] += f(a[l]);
        }
    }
    for (l, a) in tail.iter().enumerate() {
        acc[l] += f(*a);
    }
    tree(acc)
}

/// Declares a function whose body is compiled once for each instruction set; the body is plain Rust without reordering, so
/// all of them give the same bits. The module must carry `#![expect(unsafe_code)]`.
macro_rules! for_each_isa {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$doc])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                match $crate::kernels::current_isa() {
                    // SAFETY: the choice is never an instruction set that this machine lacks.
                    $crate::kernels::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernels::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::kernels::Isa::Scalar => {}
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use for_each_isa;
