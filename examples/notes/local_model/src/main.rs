//! The notes app with a language model, all-MiniLM-L6-v2, which runs on this machine.
//!
//! ```text
//! cd examples/notes/local_model && cargo run --release -- STORE
//! ```
//!
//! Everything but the embedder is the code beside this directory. The crate `fastembed` fetches the model, some 90 MB, when the app
//! first starts, and keeps it in `.fastembed_cache` or `$FASTEMBED_CACHE_DIR`; from then on no network is needed. It is the model
//! that the shipped entries were embedded with, so one store may be used with it and without.
//!
//! (Checked by the compiler against fastembed 7.5, but not run by Nestling's tests, which must pass without the network.)

use std::cell::RefCell;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use embedder::Embedder;
use fastembed::{EmbeddingModel, TextEmbedding, TextInitOptions};

#[path = "../../app.rs"]
mod app;
#[path = "../../embedder.rs"]
mod embedder;
#[path = "../../notes.rs"]
mod notes;
#[path = "../../../../tests/common/words.rs"]
#[expect(dead_code, reason = "`words` looks for them in the crate that is built")]
mod words;

/// The model. It wants to be lent mutably for each text.
struct MiniLm(RefCell<TextEmbedding>);

impl MiniLm {
    fn load() -> Result<Self, Box<dyn Error>> {
        let options = TextInitOptions::new(EmbeddingModel::AllMiniLML6V2).with_show_download_progress(true);
        Ok(Self(RefCell::new(TextEmbedding::try_new(options)?)))
    }
}

impl Embedder for MiniLm {
    fn embed(&self, text: &str) -> Result<Option<Vec<f32>>, Box<dyn Error>> {
        Ok(self.0.borrow_mut().embed([text], None)?.pop())
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (store, command) = arguments.split_first().ok_or("usage: notes STORE [COMMAND]")?;
    let command = (!command.is_empty()).then(|| command.join(" "));
    let words = words::words_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data"));
    let model = Box::new(MiniLm::load()?);
    let (input, mut output) = (std::io::stdin().lock(), std::io::stdout());
    app::run(Path::new(store), model, &words, command.as_deref(), input, &mut output)
}
