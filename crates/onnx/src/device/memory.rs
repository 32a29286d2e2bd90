//! Memory on the device: what ONNX Runtime is given by address, because only so can keys and values be changed in place and parts of them be bound.

use std::{
    ffi::{CString, c_void},
    ptr,
};

use ort::{
    AsPointer,
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    ortsys,
    session::{IoBinding, Session},
    sys::ONNXTensorElementDataType,
    value::{DynTensor, TensorElementType},
};

/// A model of one node that copies `from`, f32 \[n\], to `to`: the bytes of its protobuf.
pub(super) const COPY: &[u8] = b"\x08\x09\x3a\x44\
    \x0a\x14\x0a\x04from\x12\x02to\x22\x08Identity\
    \x12\x04copy\
    \x5a\x13\x0a\x04from\x12\x0b\x0a\x09\x08\x01\x12\x05\x0a\x03\x12\x01n\
    \x62\x11\x0a\x02to\x12\x0b\x0a\x09\x08\x01\x12\x05\x0a\x03\x12\x01n\
    \x42\x04\x0a\x00\x10\x14";
/// Bytes of what is copied: f32, whatever they mean.
pub(super) const WORD: usize = 4;
/// Zeros that are written at once.
const ZEROS: usize = 1 << 24;

/// Which memory an address is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The program's own.
    Host,
    /// The GPU's.
    Cuda,
}

impl Side {
    fn info(self) -> ort::Result<MemoryInfo<'static>> {
        let device = if self == Self::Host { AllocationDevice::CPU } else { AllocationDevice::CUDA };
        MemoryInfo::new(device, 0, AllocatorType::Device, MemoryType::Default)
    }
}

/// An array somewhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) side: Side,
    pub(super) start: *mut c_void,
    pub(super) bytes: usize,
}

impl Span {
    /// Numbers of the program's own. They must not be used while the span is.
    pub(super) fn of<T>(numbers: &mut [T]) -> Self {
        Self { side: Side::Host, start: numbers.as_mut_ptr().cast(), bytes: size_of_val(numbers) }
    }

    /// `bytes` of it, from `start` on.
    pub(super) fn part(self, start: usize, bytes: usize) -> Self {
        assert!(start.checked_add(bytes).is_some_and(|end| end <= self.bytes), "a part of the span");
        Self { start: self.start.wrapping_byte_add(start), bytes, ..self }
    }
}

/// An array on the device, of zeros at first.
#[derive(Debug)]
pub(super) struct Buffer {
    /// f32, whatever its bytes mean.
    memory: DynTensor,
    side: Side,
    bytes: usize,
}

impl Buffer {
    pub(super) fn span(&mut self) -> Span {
        Span { side: self.side, start: self.memory.data_ptr_mut(), bytes: self.bytes }
    }
}

/// Whether a value is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Input,
    Output,
}

/// Makes `name` of a session the tensor that lies in `span`.
///
/// # Safety
/// The span is valid, and used by nobody else, whenever the session runs with this binding.
pub(super) unsafe fn bind(
    binding: &mut IoBinding,
    (way, name): (Way, &str),
    span: Span,
    element: TensorElementType,
    shape: &[i64],
) -> ort::Result<()> {
    let name = CString::new(name).map_err(ort::Error::wrap)?;
    let info = span.side.info()?;
    let element = ONNXTensorElementDataType::from(element);
    let mut value = ptr::null_mut();
    // SAFETY: the pointers are of live values, and the span is valid, by the caller's promise.
    ortsys![unsafe CreateTensorWithDataAsOrtValue(info.ptr(), span.start, span.bytes, shape.as_ptr(), shape.len(), element, &mut value)?];
    let place = binding.ptr_mut();
    let bound = || {
        match way {
            // SAFETY: the value was just made, and the binding keeps what it needs of it.
            Way::Input => ortsys![unsafe BindInput(place, name.as_ptr(), value)?],
            // SAFETY: as above.
            Way::Output => ortsys![unsafe BindOutput(place, name.as_ptr(), value)?],
        }
        Ok(())
    };
    let outcome = bound();
    // SAFETY: it was made above and is used no more.
    ortsys![unsafe ReleaseValue(value)];
    outcome
}

/// Makes and fills arrays on the device of a session.
#[derive(Debug)]
pub(super) struct Memory {
    copy: Session,
    side: Side,
}

impl Memory {
    /// With a session of [`COPY`] that runs on `side`.
    pub(super) fn new(side: Side, copy: Session) -> Self {
        Self { copy, side }
    }

    /// Zeros.
    pub(super) fn allocate(&mut self, bytes: usize) -> ort::Result<Buffer> {
        let bytes = bytes.next_multiple_of(WORD);
        let shape = [bytes / WORD];
        let memory = match self.side {
            Side::Host => DynTensor::new(&Allocator::default(), TensorElementType::Float32, shape)?,
            Side::Cuda => {
                let allocator = Allocator::new(&self.copy, self.side.info()?)?;
                DynTensor::new(&allocator, TensorElementType::Float32, shape)?
            }
        };
        let mut buffer = Buffer { memory, side: self.side, bytes };
        if self.side == Side::Cuda {
            self.clear(buffer.span())?;
        }
        Ok(buffer)
    }

    fn clear(&mut self, span: Span) -> ort::Result<()> {
        let mut zeros = vec![0.0_f32; ZEROS.min(span.bytes / WORD)];
        let zeros = Span::of(&mut zeros);
        for start in (0..span.bytes).step_by(zeros.bytes.max(WORD)) {
            let bytes = zeros.bytes.min(span.bytes - start);
            self.copy(zeros.part(0, bytes), span.part(start, bytes))?;
        }
        Ok(())
    }

    /// Copies whole words to another array of the same length.
    pub(super) fn copy(&mut self, from: Span, to: Span) -> ort::Result<()> {
        assert!(from.bytes == to.bytes && from.bytes.is_multiple_of(WORD), "both are of as many words");
        if from.bytes == 0 {
            return Ok(());
        }
        let mut binding = self.copy.create_binding()?;
        let shape = [(from.bytes / WORD) as i64];
        for (way, span) in [((Way::Input, "from"), from), ((Way::Output, "to"), to)] {
            // SAFETY: spans are of live memory; the binding is used but here.
            unsafe { bind(&mut binding, way, span, TensorElementType::Float32, &shape)? };
        }
        self.copy.run_binding(&binding)?;
        Ok(())
    }
}
