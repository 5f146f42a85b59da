//! Fixed-width archives: rkyv structs whose bytes are the same everywhere.
//!
//! rkyv's own numbers change their byte order and alignment with rkyv's features, which any crate in an app's dependency graph may
//! turn on. Here every number is archived [as little-endian bytes](LittleEndian), so a struct's archive has alignment 1, no
//! padding, and one format. (rkyv 0.8 does not archive `rend`'s unaligned numbers as they are.)

use rkyv::api::high::{HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::{Error as RkyvError, Fallible};
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::with::{ArchiveWith, SerializeWith};
use rkyv::{Archive, Place, Portable, Serialize};

/// Archives a number as its little-endian bytes.
pub(crate) struct LittleEndian;

macro_rules! little_endian {
    ($($number:ty),*) => {$(
        impl ArchiveWith<$number> for LittleEndian {
            type Archived = [u8; size_of::<$number>()];
            type Resolver = ();

            fn resolve_with(number: &$number, _: (), out: Place<Self::Archived>) {
                out.write(number.to_le_bytes());
            }
        }

        impl<S: Fallible + ?Sized> SerializeWith<$number, S> for LittleEndian {
            fn serialize_with(_: &$number, _: &mut S) -> Result<(), S::Error> {
                Ok(())
            }
        }
    )*};
}

little_endian!(u16, u32, u64);

/// A struct of bytes, byte arrays and [`LittleEndian`] numbers.
pub(crate) trait Fixed:
    Archive<Archived: Portable + for<'a> CheckBytes<HighValidator<'a, RkyvError>>>
    + for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, RkyvError>>
{
}

impl<T> Fixed for T where
    T: Archive<Archived: Portable + for<'a> CheckBytes<HighValidator<'a, RkyvError>>>
        + for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, RkyvError>>
{
}

/// The archive of a struct: exactly as many bytes as its archived type has.
pub(crate) fn archive<T: Fixed>(value: &T) -> Vec<u8> {
    rkyv::to_bytes::<RkyvError>(value).expect("a fixed-width archive in memory").into_vec()
}

/// The struct in these bytes, checked; otherwise what is wrong with them.
pub(crate) fn access<T: Fixed>(bytes: &[u8]) -> Result<&T::Archived, String> {
    let expected = size_of::<T::Archived>();
    if bytes.len() != expected {
        return Err(format!("{} bytes where {expected} were expected", bytes.len()));
    }
    rkyv::access::<T::Archived, RkyvError>(bytes).map_err(|e| e.to_string())
}

/// Declares structs that are archived in a fixed number of bytes.
macro_rules! fixed_width {
    ($($(#[$doc:meta])* $vis:vis struct $name:ident / $archived:ident: $size:literal {
        $($(#[$attribute:meta])* $field:ident: $type:ty,)*
    })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
        $vis struct $name { $($(#[$attribute])* pub(crate) $field: $type,)* }

        const _: () = assert!(size_of::<$archived>() == $size && align_of::<$archived>() == 1);
    )*};
}
pub(crate) use fixed_width;
