//! The commands, over any input and output.

use std::io::{BufRead, Write};
use std::path::Path;

use super::embedder::Embedder;
use super::notes::{Changes, Draft, Note, Notes, Result, Written};
use super::words::Words;

pub const HELP: &str = "  \
  add TEXT #tag…     store a note         find WORDS #tag…  search by meaning
  edit ID TEXT       replace its text     list #tag…        the latest notes
  delete ID          remove it            tags              all tags
  begin              try changes out, until `commit` or `abort`
  crash              die in the middle of a transaction
  help, quit";

const SHOWN: usize = 8;
const WIDTH: usize = 79;
const NOT_BEGUN: &str = "no changes were begun";

/// Carries out one command, where one is given, or those that the input has, line by line.
pub fn run(
    path: &Path,
    embedder: Box<dyn Embedder>,
    shipped: &Words,
    command: Option<&str>,
    input: impl BufRead,
    output: &mut dyn Write,
) -> Result<()> {
    let notes = Notes::open(path, embedder)?;
    if notes.count()? == (0, 0) {
        seed(&notes, shipped)?;
        writeln!(output, "Began with {} entries of WordNet in {}.", shipped.texts.len(), path.display())?;
    }
    let mut app = App { notes: &notes, changes: None, output };
    match command {
        Some(command) => app.carry_out(command).map(|_| ()),
        None => app.converse(input),
    }
}

/// Puts the shipped dictionary entries into a new store, in one transaction: all of them or none.
fn seed(notes: &Notes, shipped: &Words) -> Result<()> {
    let tags: Vec<Vec<String>> = shipped.texts.iter().map(|text| topics(text)).collect();
    let drafts = shipped.texts.iter().zip(&tags).map(|(text, tags)| Draft { text, tags });
    let changes = notes.begin()?;
    changes.import(drafts, &shipped.vectors)?;
    changes.commit()
}

/// Tags for an entry, by what its text mentions.
fn topics(text: &str) -> Vec<String> {
    const TOPICS: [(&str, &[&str]); 5] = [
        ("animal", &["bird", "dog", "cat", "whale", "seal", "bear", "animal"]),
        ("food", &["bread", "cheese", "dish", "sauce", "drink", "fruit", "vegetable", "food"]),
        ("game", &["game", "sport", "player", "dance"]),
        ("music", &["music", "musical", "song", "singing"]),
        ("place", &["city", "country", "lake", "river", "mountain", "island", "sea"]),
    ];
    let mentions = |word: &&str| text.split(|c: char| !c.is_alphanumeric()).any(|other| other == *word);
    let topics = TOPICS.iter().filter(|(_, words)| words.iter().any(mentions));
    topics.map(|(topic, _)| topic.to_string()).collect()
}

struct App<'a> {
    notes: &'a Notes,
    /// What was changed since `begin`.
    changes: Option<Changes<'a>>,
    output: &'a mut dyn Write,
}

impl<'a> App<'a> {
    /// Until the input ends, or says so. Whatever goes wrong is told, and the next line is another chance.
    fn converse(&mut self, input: impl BufRead) -> Result<()> {
        let (count, _) = self.notes.count()?;
        writeln!(self.output, "{count} notes. `help` tells the commands.")?;
        self.prompt()?;
        for line in input.lines() {
            match self.carry_out(&line?) {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => writeln!(self.output, "{e}")?,
            }
            self.prompt()?;
        }
        Ok(())
    }

    fn prompt(&mut self) -> Result<()> {
        let mark = if self.changes.is_some() { "notes, uncommitted> " } else { "notes> " };
        write!(self.output, "{mark}")?;
        Ok(self.output.flush()?)
    }

    /// False when it was the last.
    fn carry_out(&mut self, line: &str) -> Result<bool> {
        let (command, rest) = split(line);
        let (text, tags) = text_and_tags(rest);
        let draft = Draft { text: &text, tags: &tags };
        match command {
            "" => {}
            "add" => self.add(draft)?,
            "edit" => self.edit(rest)?,
            "delete" => self.delete(number(rest)?)?,
            "find" => self.find(draft)?,
            "list" => self.list(&tags)?,
            "tags" => self.tags()?,
            "begin" => self.begin()?,
            "commit" => self.commit()?,
            "abort" => self.abort()?,
            "crash" => self.crash()?,
            "help" => writeln!(self.output, "{HELP}")?,
            "quit" => return Ok(false),
            other => {
                return Err(format!("there is no command {other:?}; `help` tells those there are").into());
            }
        }
        Ok(true)
    }

    fn add(&mut self, draft: Draft<'_>) -> Result<()> {
        require_text(draft)?;
        let written = self.change(|changes| changes.add(draft))?;
        self.tell("Added", written)
    }

    fn edit(&mut self, rest: &str) -> Result<()> {
        let (id, rest) = split(rest);
        let (id, (text, tags)) = (number(id)?, text_and_tags(rest));
        let draft = Draft { text: &text, tags: &tags };
        require_text(draft)?;
        let written = self.change(|changes| changes.edit(id, draft))?;
        self.tell("Changed", written)
    }

    fn tell(&mut self, done: &str, Written { id, is_findable }: Written) -> Result<()> {
        let hint = if is_findable { "" } else { " None of its words is known: `find` will not find it." };
        Ok(writeln!(self.output, "{done} note {id}.{hint}")?)
    }

    fn delete(&mut self, id: u64) -> Result<()> {
        self.change(|changes| changes.delete(id))?;
        Ok(writeln!(self.output, "Deleted note {id}.")?)
    }

    /// Makes a change among those that were begun, or else at once, in a transaction of its own.
    fn change<T>(&mut self, change: impl FnOnce(&Changes<'_>) -> Result<T>) -> Result<T> {
        if let Some(changes) = &self.changes {
            return change(changes);
        }
        let changes = self.notes.begin()?;
        let result = change(&changes)?;
        changes.commit()?;
        Ok(result)
    }

    fn find(&mut self, Draft { text, tags }: Draft<'_>) -> Result<()> {
        if text.is_empty() {
            return Err("find what? `list` takes tags alone".into());
        }
        let found = match &self.changes {
            Some(changes) => changes.find(text, tags, SHOWN)?,
            None => self.notes.find(text, tags, SHOWN)?,
        };
        if found.is_empty() {
            writeln!(self.output, "No note that words can find has these tags.")?;
        }
        for (distance, note) in &found {
            self.print(&format!("{distance:.2}  "), note)?;
        }
        Ok(())
    }

    fn list(&mut self, tags: &[String]) -> Result<()> {
        if self.changes.is_some() {
            writeln!(self.output, "As of the last commit:")?;
        }
        for note in self.notes.list(tags, SHOWN)? {
            self.print("", &note)?;
        }
        Ok(())
    }

    fn tags(&mut self) -> Result<()> {
        for (tag, count) in self.notes.tags()? {
            writeln!(self.output, "{count:6}  #{tag}")?;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<()> {
        if self.changes.is_some() {
            return Err("changes were begun already; `commit` or `abort` them".into());
        }
        self.changes = Some(self.notes.begin()?);
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        self.changes.take().ok_or(NOT_BEGUN)?.commit()?;
        Ok(writeln!(self.output, "Committed.")?)
    }

    fn abort(&mut self) -> Result<()> {
        self.changes.take().ok_or(NOT_BEGUN)?.abort()?;
        Ok(writeln!(self.output, "Everything is as it was before `begin`.")?)
    }

    /// Adds a note, deletes another, and dies before the commit. Whoever opens the store again finds it as it was.
    fn crash(&mut self) -> Result<()> {
        let changes = match self.changes.take() {
            Some(changes) => changes,
            None => self.notes.begin()?,
        };
        let Written { id, .. } = changes.add(Draft { text: "This note is never committed.", tags: &[] })?;
        changes.delete(id - 1)?;
        writeln!(self.output, "Added note {id}, deleted note {}, committed nothing. Dying.", id - 1)?;
        self.output.flush()?;
        std::process::abort()
    }

    /// One line for a note, as far as there is place.
    fn print(&mut self, start: &str, note: &Note) -> Result<()> {
        let tags: String = note.tags.iter().map(|tag| format!(" #{tag}")).collect();
        let start = format!("{start}{:>5}  ", note.id);
        let place = WIDTH.saturating_sub(start.len() + tags.chars().count());
        Ok(writeln!(self.output, "{start}{}{tags}", shorten(&note.text, place))?)
    }
}

fn split(line: &str) -> (&str, &str) {
    let (word, rest) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
    (word, rest.trim())
}

fn number(id: &str) -> Result<u64> {
    id.parse().map_err(|_| format!("{id:?} is no note's number").into())
}

/// Words that begin with # are tags, wherever they are.
fn text_and_tags(line: &str) -> (String, Vec<String>) {
    let (tags, words): (Vec<&str>, Vec<&str>) =
        line.split_whitespace().partition(|word| word.len() > 1 && word.starts_with('#'));
    (words.join(" "), tags.iter().map(|tag| tag[1..].to_lowercase()).collect())
}

fn require_text(draft: Draft<'_>) -> Result<()> {
    if draft.text.is_empty() { Err("a note needs a text".into()) } else { Ok(()) }
}

fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}
