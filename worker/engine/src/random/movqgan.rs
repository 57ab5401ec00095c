//! Tensors of the image tokenizer.

use super::ImageTokenizerSize;
use super::draw::Spec;

const LATENT: usize = 4;

/// Shape of a MoVQGAN of four levels, attention at the last.
struct Shape {
    levels: [usize; 4],
    blocks: usize,
    specs: Vec<Spec>,
}

/// All tensors of an image tokenizer of `codes` codes.
pub(super) fn specs(size: ImageTokenizerSize, codes: usize) -> Vec<Spec> {
    let (levels, blocks) = match size {
        ImageTokenizerSize::Small => ([32, 32, 32, 64], 1),
        ImageTokenizerSize::M270 => ([256, 512, 512, 1024], 2),
    };
    let mut shape = Shape { levels, blocks, specs: Vec::new() };
    shape.encoder();
    shape.decoder();
    shape.add("quantize.embedding.weight", &[codes, LATENT], 0.0, 1.0);
    shape.conv("quant_conv", LATENT, LATENT, 1);
    shape.conv("post_quant_conv", LATENT, LATENT, 1);
    shape.specs
}

impl Shape {
    fn encoder(&mut self) {
        let levels = self.levels;
        let mut width = levels[0];
        self.conv("encoder.conv_in", width, 3, 3);
        for (l, out) in levels.into_iter().enumerate() {
            for b in 0..self.blocks {
                self.block(&format!("encoder.down.{l}.block.{b}"), width, out, false);
                width = out;
                if l == 3 {
                    self.attention(&format!("encoder.down.{l}.attn.{b}"), out, false);
                }
            }
            if l < 3 {
                self.conv(&format!("encoder.down.{l}.downsample.conv"), out, out, 3);
            }
        }
        self.mid("encoder.mid", width, false);
        self.norm("encoder.norm_out", width, false);
        self.conv("encoder.conv_out", LATENT, width, 3);
    }

    fn decoder(&mut self) {
        let levels = self.levels;
        let mut width = levels[3];
        self.conv("decoder.conv_in", width, LATENT, 3);
        self.mid("decoder.mid", width, true);
        for (l, out) in levels.into_iter().enumerate().rev() {
            for b in 0..=self.blocks {
                self.block(&format!("decoder.up.{l}.block.{b}"), width, out, true);
                width = out;
                if l == 3 {
                    self.attention(&format!("decoder.up.{l}.attn.{b}"), out, true);
                }
            }
            if l > 0 {
                self.conv(&format!("decoder.up.{l}.upsample.conv"), out, out, 3);
            }
        }
        self.norm("decoder.norm_out", width, true);
        self.conv("decoder.conv_out", 3, width, 3);
    }

    fn mid(&mut self, name: &str, width: usize, spatial: bool) {
        self.block(&format!("{name}.block_1"), width, width, spatial);
        self.attention(&format!("{name}.attn_1"), width, spatial);
        self.block(&format!("{name}.block_2"), width, width, spatial);
    }

    fn block(&mut self, name: &str, from: usize, to: usize, spatial: bool) {
        self.norm(&format!("{name}.norm1"), from, spatial);
        self.conv(&format!("{name}.conv1"), to, from, 3);
        self.norm(&format!("{name}.norm2"), to, spatial);
        self.conv(&format!("{name}.conv2"), to, to, 3);
        if from != to {
            self.conv(&format!("{name}.nin_shortcut"), to, from, 1);
        }
    }

    fn attention(&mut self, name: &str, width: usize, spatial: bool) {
        self.norm(&format!("{name}.norm"), width, spatial);
        for part in ["q", "k", "v", "proj_out"] {
            self.conv(&format!("{name}.{part}"), width, width, 1);
        }
    }

    fn norm(&mut self, name: &str, width: usize, spatial: bool) {
        if !spatial {
            return self.affine(name, width);
        }
        self.affine(&format!("{name}.norm_layer"), width);
        self.add(&format!("{name}.conv_y.weight"), &[width, LATENT, 1, 1], 0.0, 0.25);
        self.add(&format!("{name}.conv_y.bias"), &[width], 1.0, 0.1);
        self.add(&format!("{name}.conv_b.weight"), &[width, LATENT, 1, 1], 0.0, 0.25);
        self.add(&format!("{name}.conv_b.bias"), &[width], 0.0, 0.1);
    }

    fn affine(&mut self, name: &str, width: usize) {
        self.add(&format!("{name}.weight"), &[width], 1.0, 0.1);
        self.add(&format!("{name}.bias"), &[width], 0.0, 0.1);
    }

    fn conv(&mut self, name: &str, to: usize, from: usize, side: usize) {
        let spread = 0.7 / ((from * side * side) as f32).sqrt();
        self.add(&format!("{name}.weight"), &[to, from, side, side], 0.0, spread);
        self.add(&format!("{name}.bias"), &[to], 0.0, 0.02);
    }

    fn add(&mut self, name: &str, shape: &[usize], mean: f32, std: f32) {
        self.specs.push(Spec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            mean,
            std,
            half: false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_270m_shape_has_all_its_tensors() {
        let specs = specs(ImageTokenizerSize::M270, 16_384);
        assert_eq!(specs.len(), 431);
        let parameters: usize = specs.iter().map(|spec| spec.shape.iter().product::<usize>()).sum();
        assert!((260_000_000..280_000_000).contains(&parameters), "{parameters}");
    }
}
