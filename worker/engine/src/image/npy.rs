//! NumPy `.npy` files (format 1.0), for maps that need more than eight bits.

use half::f16;

/// Element type of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// `<f2`
    F16,
    /// `<f4`
    F32,
}

/// The bytes of a `.npy` file with the given shape, C order. F16 rounds to nearest even.
///
/// # Panics
/// When the values do not fill the shape.
pub fn write(values: &[f32], shape: &[usize], dtype: Dtype) -> Vec<u8> {
    assert_eq!(values.len(), shape.iter().product::<usize>(), "values fill the shape");
    let descr = match dtype {
        Dtype::F16 => "<f2",
        Dtype::F32 => "<f4",
    };
    let sides: Vec<String> = shape.iter().map(|n| format!("{n},")).collect();
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", sides.join(" "));
    // The data starts at a multiple of 64: 10 bytes come before the header, a line feed ends it.
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend_from_slice(&(header.len() as u16).to_le_bytes());
    out.extend_from_slice(header.as_bytes());
    for &value in values {
        match dtype {
            Dtype::F16 => out.extend_from_slice(&f16::from_f32(value).to_le_bytes()),
            Dtype::F32 => out.extend_from_slice(&value.to_le_bytes()),
        }
    }
    out
}
