//! Spans and events of the target `nestling`, with the feature `tracing`. Without it they are nothing, and their fields are not computed.
//!
//! What is recorded later, with [`record`](Span::record), is computed either way: it has to be at hand, or be asked for only where the span
//! [is enabled](is_enabled).

#[cfg(feature = "tracing")]
mod on {
    pub(crate) use tracing::Span;

    /// A span, not entered yet: `span!(child of &parent, LEVEL, "name" [fields, recorded, later], field = value, …)`, where only level and
    /// name have to be, and values are as in `tracing::span!`.
    macro_rules! span {
        (child of $parent:expr, $($rest:tt)+) => {
            $crate::trace::span!(@ [parent: $parent,] $($rest)+)
        };
        (@ [$($parent:tt)*] $level:ident, $name:literal $([$($later:ident),+])? $(, $($given:tt)+)?) => {
            tracing::span!(
                target: "nestling",
                $($parent)*
                tracing::Level::$level,
                $name,
                $($($later = tracing::field::Empty,)+)?
                $($($given)+)?
            )
        };
        ($($rest:tt)+) => {
            $crate::trace::span!(@ [] $($rest)+)
        };
    }

    /// An event: something was mended, is damaged, or is refused from now on.
    macro_rules! warning {
        ($($fields:tt)*) => {
            tracing::warn!(target: "nestling", $($fields)*)
        };
    }

    pub(crate) use {span, warning};

    pub(crate) fn is_enabled(span: &Span) -> bool {
        !span.is_disabled()
    }
}

#[cfg(not(feature = "tracing"))]
mod on {
    /// What spans are without the feature.
    pub(crate) struct Span;

    impl Span {
        pub(crate) fn entered(self) -> Self {
            self
        }

        pub(crate) fn record<T>(&self, _: &str, _: T) -> &Self {
            self
        }
    }

    macro_rules! span {
        ($($fields:tt)*) => {
            $crate::trace::Span
        };
    }

    macro_rules! warning {
        ($($fields:tt)*) => {};
    }

    pub(crate) use {span, warning};

    pub(crate) fn is_enabled(_: &Span) -> bool {
        false
    }
}

pub(crate) use on::*;
