//! What the user sees: lines on standard output, errors and progress bars on standard error.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressState, ProgressStyle};

use crate::failure::Failure;

/// The exit code of a command that Ctrl-C has ended, as shells have it.
pub(crate) const STOPPED: u8 = 130;

/// Prints a line. Unlike `println!` it hands back the failure of a stream that was closed or is full.
pub(crate) fn line(text: impl Display) -> Result<(), Failure> {
    writeln!(io::stdout().lock(), "{text}").map_err(Failure::Output)
}

/// Prints an error. Where even that fails there is nobody left to tell.
pub(crate) fn error(failure: &Failure) {
    let _ = writeln!(io::stderr().lock(), "error: {failure}");
}

/// Says something on the way.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A progress bar, on a terminal only. It disappears when it is dropped. `begun` of `length` were done before, in no time that counts;
/// `length` is unknown for a pipe.
pub(crate) fn progress(what: &'static str, begun: u64, length: Option<u64>, json: bool) -> ProgressBar {
    if json || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match length {
        Some(length) => (ProgressBar::new(length), "{prefix} {wide_bar} {human_pos}/{human_len}{rate}{left}"),
        None => (ProgressBar::no_length(), "{prefix} {spinner} {human_pos}{rate}"),
    };
    let bar = match ProgressStyle::with_template(template) {
        Ok(style) => {
            // Nothing is known before the first step, and indicatif would say that no time is left. A bar has no way to tell of a failure to
            // write.
            let rate = move |state: &ProgressState, text: &mut dyn std::fmt::Write| {
                if state.pos() > begun {
                    // In whole ones: indicatif's own has three decimals.
                    let _ = write!(text, " {}/s", HumanCount(state.per_sec() as u64));
                }
            };
            let left = move |state: &ProgressState, text: &mut dyn std::fmt::Write| {
                if state.pos() > begun {
                    let _ = write!(text, " {:#} left", HumanDuration(state.eta()));
                }
            };
            bar.with_style(style.with_key("rate", rate).with_key("left", left)).with_prefix(what)
        }
        // Only a template that is not well-formed gets here; the default style will do.
        Err(_) => bar.with_prefix(what),
    };
    bar.set_position(begun);
    bar.reset_eta();
    bar
}
