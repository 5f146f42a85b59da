//! What is compared, behind one trait.

use std::path::Path;

use crate::data::Matrix;
use crate::{Opening, Result, Setup};

#[cfg(feature = "hannoy")]
pub(crate) mod hannoy;
pub(crate) mod nestling;
#[cfg(feature = "usearch")]
pub(crate) mod usearch;

pub(crate) trait Peer: Sized {
    /// The package in `Cargo.lock` whose version is told.
    const PACKAGE: &str;
    /// Whether everything that `build` inserts is on disk, synced, when it returns.
    const DURABLE: bool;

    /// What distances are computed on.
    fn elements(setup: &Setup) -> &'static str;

    /// Inserts all rows under their numbers as keys, in that order, and leaves them ready to be searched.
    fn build(setup: &Setup, directory: &Path, base: &Matrix) -> Result<Self>;

    /// Makes what was built durable, where `build` does not.
    fn save(&self) -> Result<()> {
        Ok(())
    }

    /// Opens what is on disk.
    fn open(setup: &Setup, directory: &Path, dimension: usize, how: Opening) -> Result<Self>;

    fn len(&self) -> Result<usize>;

    /// Searches for each query in turn; tells the keys found.
    fn search(&self, queries: &Matrix, ef: usize) -> Result<Vec<Vec<u64>>>;

    /// Inserts one vector; when this returns it survives a power cut, and at no time would one have cost the others.
    fn insert_durably(&mut self, key: u64, vector: &[f32]) -> Result<()>;
}

/// Calls a function of `measure` with the type of the peer that is set up.
macro_rules! measure {
    ($setup:expr, $function:ident $(, $argument:expr)*) => {{
        let setup: &$crate::Setup = $setup;
        match setup.peer {
            $crate::PeerName::Nestling => {
                $crate::measure::$function::<$crate::peers::nestling::Nestling>(setup $(, $argument)*)
            }
            #[cfg(feature = "hannoy")]
            $crate::PeerName::Hannoy => match setup.metric {
                $crate::Metric::Cosine => {
                    $crate::measure::$function::<$crate::peers::hannoy::Hannoy<::hannoy::distances::Cosine>>(
                        setup $(, $argument)*
                    )
                }
                $crate::Metric::L2 => {
                    $crate::measure::$function::<$crate::peers::hannoy::Hannoy<::hannoy::distances::Euclidean>>(
                        setup $(, $argument)*
                    )
                }
            },
            #[cfg(feature = "usearch")]
            $crate::PeerName::Usearch | $crate::PeerName::UsearchBf16 | $crate::PeerName::UsearchI8 => {
                $crate::measure::$function::<$crate::peers::usearch::Usearch>(setup $(, $argument)*)
            }
        }
    }};
}
pub(crate) use measure;
