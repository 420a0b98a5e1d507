//! Taking named tensors out of the files, in the form the plan asks for.
//!
//! MLX reads safetensors lazily: bytes move when a layer is evaluated. A GGUF file is read in one go, and unpacked layer
//! by layer.

use std::collections::HashMap;
use std::path::PathBuf;

use mlx_rs::io::GgufFile;
use mlx_rs::{Array, Dtype};
use mlxsup_fit::{FileError, safetensors};

use super::linear::{Linear, Matrix};
use super::{ModelError, ModelSource, OpenedModel, Precision, Shape, gguf_names};

/// All tensors of a model that have not been taken yet.
pub(super) struct Weights {
    arrays: HashMap<String, Array>,
    path: PathBuf,
    precision: Precision,
    /// Query and key rows are in GGUF's interleaved order.
    interleaved: bool,
    shape: Shape,
    /// Type of activations, known once the embedding was taken. Files may mix types; a step must not.
    dtype: Option<Dtype>,
    /// Bytes taken since the last call of [`Self::taken`].
    taken: u64,
}

impl Weights {
    pub(super) fn open(model: &OpenedModel, precision: Precision) -> Result<Self, ModelError> {
        let path = model.source.path().to_owned();
        let mut arrays = HashMap::new();
        let mut interleaved = false;
        match &model.source {
            ModelSource::Folder(folder) => {
                for file in safetensors::files(folder)? {
                    let read = Array::load_safetensors(&file).map_err(|error| ModelError::Mlx {
                        doing: format!("opening {}", file.display()),
                        message: error.to_string(),
                    })?;
                    arrays.extend(read);
                }
            }
            ModelSource::Gguf { path, .. } => {
                interleaved = true;
                let failed = |error: mlx_rs::io::GgufError| ModelError::Mlx {
                    doing: format!("reading {}", path.display()),
                    message: error.to_string(),
                };
                let read = GgufFile::load(path).and_then(|file| file.arrays()).map_err(failed)?;
                let renamed =
                    |(name, array): (String, Array)| (gguf_names::hugging_face_name(&name).unwrap_or(name), array);
                arrays.extend(read.into_iter().map(renamed));
            }
        }
        Ok(Self { arrays, path, precision, interleaved, shape: model.shape.clone(), dtype: None, taken: 0 })
    }

    /// Stored bytes of the tensors taken since the last call.
    pub(super) fn taken(&mut self) -> u64 {
        std::mem::take(&mut self.taken)
    }

    /// Names nobody asked for.
    pub(super) fn left_over(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.arrays.keys().map(String::as_str).collect();
        names.retain(|name| !name.ends_with("rotary_emb.inv_freq"));
        names.sort_unstable();
        names
    }

    fn wrong(&self, what: String) -> ModelError {
        FileError::weights(&self.path, what).into()
    }

    pub(super) fn take_optional(&mut self, name: &str) -> Option<Array> {
        let array = self.arrays.remove(name)?;
        self.taken += array.nbytes() as u64;
        Some(array)
    }

    fn take(&mut self, name: &str) -> Result<Array, ModelError> {
        self.take_optional(name).ok_or_else(|| self.wrong(format!("tensor `{name}` is missing")))
    }

    /// A vector of `width` numbers as `dtype`.
    pub(super) fn vector(&mut self, name: &str, width: u32, dtype: Dtype) -> Result<Array, ModelError> {
        let array = self.take(name)?;
        if array.shape() != [side(width)] {
            return Err(self.wrong(format!("tensor `{name}` has the shape {:?}, not [{width}]", array.shape())));
        }
        array.as_dtype(dtype).map_err(ModelError::mlx(format!("converting `{name}`")))
    }

    /// The matrix `module` and, where the file has one, its bias.
    pub(super) fn linear(&mut self, module: &str) -> Result<Linear, ModelError> {
        let matrix = self.matrix(module)?;
        let name = format!("{module}.bias");
        let bias = match self.arrays.contains_key(&name) {
            true => {
                let rows = self.shape.matrix(module).map_or(0, |(rows, _)| rows);
                let bias = self.vector(&name, rows, matrix.dtype())?;
                Some(self.in_order(module, bias).map_err(ModelError::mlx(format!("reordering `{name}`")))?)
            }
            false => None,
        };
        Ok(Linear { matrix, bias })
    }

    /// The matrix `module`, unpacked when the plan says so.
    pub(super) fn matrix(&mut self, module: &str) -> Result<Matrix, ModelError> {
        let stored = self.stored_matrix(module)?;
        let dtype = self.dtype.unwrap_or(stored.dtype());
        let matrix = match self.precision {
            Precision::Stored => stored.into_dtype(dtype),
            Precision::Float32 => stored.into_float32(),
        };
        let matrix = matrix.map_err(ModelError::mlx(format!("unpacking `{module}`")))?;
        self.dtype.get_or_insert(matrix.dtype());
        Ok(matrix)
    }

    fn stored_matrix(&mut self, module: &str) -> Result<Matrix, ModelError> {
        let failed = || ModelError::mlx(format!("preparing `{module}`"));
        let (rows, columns) =
            self.shape.matrix(module).ok_or_else(|| self.wrong(format!("`{module}` is not a matrix")))?;
        let (rows, columns) = (side(rows), side(columns));
        let weight = self.take(&format!("{module}.weight"))?;
        let Some(scales) = self.take_optional(&format!("{module}.scales")) else {
            if weight.shape() != [rows, columns] {
                let shape = weight.shape().to_vec();
                return Err(self.wrong(format!("`{module}` has the shape {shape:?}, not [{rows}, {columns}]")));
            }
            return Matrix::dense(self.in_order(module, weight).map_err(failed())?).map_err(failed());
        };
        let biases = self.take(&format!("{module}.biases"))?;
        // Group and bits follow from the shapes, which makes per-layer settings need no configuration.
        let unit = |array: &Array| match *array.shape() {
            [height, width] if height == rows && width > 0 => Some(width),
            _ => None,
        };
        let layout = unit(&weight).zip(unit(&scales)).zip(unit(&biases)).and_then(|((words, groups), bias_groups)| {
            let fits = groups == bias_groups && columns % groups == 0 && (words * 32) % columns == 0;
            fits.then(|| (columns / groups, words * 32 / columns))
        });
        let Some((group, bits)) = layout.filter(|(_, bits)| [2, 3, 4, 5, 6, 8].contains(bits)) else {
            return Err(self.wrong(format!(
                "`{module}` is packed as {:?} with scales {:?}, which is no affine quantisation of [{rows}, {columns}]",
                weight.shape(),
                scales.shape()
            )));
        };
        let packed = self.in_order(module, weight).map_err(failed())?;
        let scales = self.in_order(module, scales).map_err(failed())?;
        let biases = self.in_order(module, biases).map_err(failed())?;
        Ok(Matrix::Quantised { packed, scales, biases, group, bits })
    }

    /// Undoes GGUF's order of query and key rows: each head's rows come in pairs (i, i + half) there.
    fn in_order(&self, module: &str, array: Array) -> Result<Array, mlx_rs::error::Exception> {
        let heads = match module.rsplit('.').next() {
            Some("q_proj") if self.interleaved => self.shape.heads,
            Some("k_proj") if self.interleaved => self.shape.kv_heads,
            _ => return Ok(array),
        };
        let shape = array.shape().to_vec();
        array
            .reshape(&[side(heads), side(self.shape.head_dim / 2), 2, -1])?
            .transpose_axes(&[0, 2, 1, 3])?
            .reshape(&shape)?
            .contiguous()
    }
}

/// A dimension for MLX; [`Shape::check`] keeps them far below the limit.
pub(super) fn side(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
