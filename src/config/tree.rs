//! A YAML text as a tree in which every value knows where it stands.
//!
//! Building goes on after a mistake and leaves out what is wrong. Only plain YAML is taken: one document of
//! mappings, lists and scalars. Without aliases the tree cannot be larger than the text.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError};

use super::problem::{Problem, nearest, shortened, shown_quoted, shown_reference, shown_value};
use super::variables::Variables;

/// How deep values may nest; the configuration itself needs five levels.
const MAX_DEPTH: usize = 32;

/// Line and column, 1-based.
pub(super) type Position = (usize, usize);

/// A value's place in its [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(usize);

/// All values of a text. The first one is the root.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// Whether all of the text could be read.
    pub(super) complete: bool,
}

#[derive(Debug)]
struct Node {
    parent: Option<Id>,
    name: Name,
    position: Position,
    content: Content,
    left_out: bool,
}

#[derive(Debug)]
enum Name {
    None,
    Key(String, Position),
    Index(usize),
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Content {
    /// Text as typed, with variables replaced; `plain` when it stands without quotes.
    Scalar { text: String, plain: bool },
    /// `- a`
    List(Vec<Id>),
    /// `a: b`
    Mapping(Vec<Id>),
}

impl Content {
    /// Whether it is `null`, or nothing at all.
    pub(super) fn is_null(&self) -> bool {
        matches!(self, Content::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }
}

impl Tree {
    /// The whole.
    pub(super) const ROOT: Id = Id(0);

    /// Reads `variables`' text as far as it can be read, and tells what is wrong with it.
    pub(super) fn build(variables: &Variables) -> (Self, Vec<Problem>) {
        let mut builder = Builder {
            variables,
            tree: Tree { nodes: Vec::new(), complete: true },
            open: Vec::new(),
            problems: Vec::new(),
        };
        for event in Parser::new_from_str(&variables.text) {
            let done = match event {
                Ok((event, span)) => builder.take(event, position_of(&span.start)),
                Err(error) => builder.stop_at(&error),
            };
            if done {
                break;
            }
        }
        let Builder { mut tree, problems, .. } = builder;
        if tree.nodes.is_empty() {
            let content = Content::Scalar { text: String::new(), plain: true };
            tree.nodes.push(Node {
                parent: None,
                name: Name::None,
                position: (1, 1),
                content,
                left_out: false,
            });
        }
        (tree, problems)
    }

    /// What `id` is.
    pub(super) fn content(&self, id: Id) -> &Content {
        &self.node(id).content
    }

    /// The values in `id` that are not left out.
    pub(super) fn children(&self, id: Id) -> impl Iterator<Item = Id> {
        let all: &[Id] = match self.content(id) {
            Content::Scalar { .. } => &[],
            Content::List(items) | Content::Mapping(items) => items,
        };
        all.iter().copied().filter(|child| !self.node(*child).left_out)
    }

    /// The key of `id` in its mapping.
    pub(super) fn key(&self, id: Id) -> &str {
        match &self.node(id).name {
            Name::Key(key, _) => key,
            Name::None | Name::Index(_) => "",
        }
    }

    /// Forgets `id`. False when it had been left out already.
    pub(super) fn leave_out(&mut self, id: Id) -> bool {
        let node = self.nodes.get_mut(id.0);
        node.is_some_and(|node| !std::mem::replace(&mut node.left_out, true))
    }

    /// The value at the dotted key, unless it is left out.
    pub(super) fn find(&self, key: &str) -> Option<Id> {
        self.present().find(|id| self.path(*id) == key)
    }

    /// The value at the dotted key, or the innermost one around it.
    pub(super) fn find_nearest(&self, key: &str) -> Id {
        let around = self.present().filter(|id| is_within(key, &self.path(*id)));
        around.max_by_key(|id| self.path(*id).len()).unwrap_or(Tree::ROOT)
    }

    /// Its dotted key, such as `slow.routes[1].threshold`; empty for the root.
    pub(super) fn path(&self, id: Id) -> String {
        let mut names = Vec::new();
        let mut next = Some(id);
        while let Some(id) = next {
            let node = self.node(id);
            names.push(&node.name);
            next = node.parent;
        }
        let mut path = String::new();
        for name in names.iter().rev() {
            match name {
                Name::None => {}
                Name::Key(key, _) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&shortened(key));
                }
                Name::Index(index) => path.extend(["[", &index.to_string(), "]"]),
            }
        }
        path
    }

    /// A problem with the value `id`.
    pub(super) fn problem(&self, id: Id, rule: impl Into<String>) -> Problem {
        let key = self.path(id);
        let got = self.shown(id, &key);
        let position = Some(self.position(id));
        Problem { position, key, rule: rule.into(), got: Some(got), did_you_mean: None }
    }

    /// A problem with the key of `id`, which is none of `known`.
    pub(super) fn unknown_key(&self, id: Id, known: &[&'static str]) -> Problem {
        let key = self.key(id);
        Problem {
            position: Some(self.key_position(id)),
            key: self.path(id),
            rule: format!("must be one of {}", known.join(", ")),
            got: Some(shortened(key)),
            did_you_mean: nearest(key, known).map(str::to_owned),
        }
    }

    /// Where the value stands; one that is not there, where its key does.
    pub(super) fn position(&self, id: Id) -> Position {
        let node = self.node(id);
        if matches!(&node.content, Content::Scalar { text, plain: true } if text.is_empty()) {
            return self.key_position(id);
        }
        node.position
    }

    fn present(&self) -> impl Iterator<Item = Id> {
        (0..self.nodes.len()).map(Id).filter(|id| !self.node(*id).left_out)
    }

    fn node(&self, id: Id) -> &Node {
        self.nodes.get(id.0).expect("an id comes from the tree that it is used with, which never shrinks")
    }

    fn key_position(&self, id: Id) -> Position {
        let node = self.node(id);
        match node.name {
            Name::Key(_, position) => position,
            Name::None | Name::Index(_) => node.position,
        }
    }

    /// What a message shows of the value `id`, whose key is `key`.
    fn shown(&self, id: Id, key: &str) -> String {
        match self.content(id) {
            Content::Scalar { text, plain: true } if text.is_empty() => "nothing".to_owned(),
            Content::Scalar { text, plain: true } => shown_value(key, text),
            Content::Scalar { text, plain: false } => shown_quoted(key, text),
            Content::List(_) => "a list".to_owned(),
            Content::Mapping(_) => "a mapping".to_owned(),
        }
    }
}

/// Whether `key` is `outer` or lies in it.
pub(super) fn is_within(key: &str, outer: &str) -> bool {
    outer.is_empty()
        || key.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Makes the tree from the parser's events.
struct Builder<'v> {
    variables: &'v Variables,
    tree: Tree,
    /// The collections that have begun and not ended.
    open: Vec<Open>,
    problems: Vec<Problem>,
}

struct Open {
    id: Id,
    next: Next,
}

/// What comes next in a collection.
enum Next {
    Item,
    Key,
    Value(String, Position),
    /// The value of a key that was refused.
    Nothing,
}

impl Builder<'_> {
    /// Adds what `event` stands for. True when nothing more is to be read.
    fn take(&mut self, event: Event<'_>, position: Position) -> bool {
        match event {
            Event::Scalar(text, style, _, tag) => {
                if matches!(self.open.last(), Some(Open { next: Next::Key, .. })) {
                    self.take_key(&text, position);
                    return false;
                }
                let (text, unresolved) = self.variables.put_back(&text);
                let id = self.add(Content::Scalar { text, plain: style == ScalarStyle::Plain }, position);
                for reference in unresolved {
                    let mut problem = self.tree.problem(id, reference.rule);
                    problem.got = Some(shown_reference(&reference.written));
                    self.refuse(id, problem);
                }
                if tag.is_some() {
                    self.refuse(id, self.tree.problem(id, "must be without a YAML tag"));
                }
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                let is_list = matches!(event, Event::SequenceStart(..));
                let content = if is_list { Content::List(Vec::new()) } else { Content::Mapping(Vec::new()) };
                let next = if is_list { Next::Item } else { Next::Key };
                let id = self.add(content, position);
                self.open.push(Open { id, next });
                if self.open.len() > MAX_DEPTH {
                    let problem =
                        self.tree.problem(id, format!("must not nest deeper than {MAX_DEPTH} levels"));
                    self.refuse(id, problem);
                    self.tree.complete = false;
                    return true;
                }
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
            }
            Event::Alias(_) => {
                let id = self.add(Content::Scalar { text: "an alias".to_owned(), plain: true }, position);
                self.refuse(id, self.tree.problem(id, "must be written out, without YAML aliases"));
            }
            Event::DocumentStart(_) if !self.tree.nodes.is_empty() => {
                let rule = "must be a single YAML document".to_owned();
                let got = Some("a second one".to_owned());
                let key = String::new();
                self.problems.push(Problem { position: Some(position), key, rule, got, did_you_mean: None });
                return true;
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
        }
        false
    }

    /// Notes a syntax error, behind which nothing can be read.
    fn stop_at(&mut self, error: &ScanError) -> bool {
        let key = self.open.last().map_or_else(String::new, |open| self.tree.path(open.id));
        self.problems.push(Problem {
            position: Some(position_of(error.marker())),
            key,
            rule: format!("must be valid YAML: {}", error.info()),
            got: None,
            did_you_mean: None,
        });
        self.tree.complete = false;
        true
    }

    fn take_key(&mut self, text: &str, position: Position) {
        let (key, unresolved) = self.variables.put_back(text);
        let Some(open) = self.open.last_mut() else { return };
        let siblings = match self.tree.content(open.id) {
            Content::Mapping(siblings) => siblings.as_slice(),
            Content::List(_) | Content::Scalar { .. } => &[],
        };
        let first = siblings.iter().copied().find(|id| self.tree.key(*id) == key);
        let mut faults: Vec<(String, String)> =
            unresolved.into_iter().map(|found| (found.rule, shown_reference(&found.written))).collect();
        if let Some(first) = first {
            let (line, _) = self.tree.key_position(first);
            faults.push((
                format!("must be given once, is given in line {line} already"),
                format!("a second {key}"),
            ));
        }
        open.next = if faults.is_empty() { Next::Value(key.clone(), position) } else { Next::Nothing };
        let parent = self.tree.path(open.id);
        for (rule, got) in faults {
            let key =
                if parent.is_empty() { shortened(&key) } else { format!("{parent}.{}", shortened(&key)) };
            let got = Some(shortened(&got));
            self.problems.push(Problem { position: Some(position), key, rule, got, did_you_mean: None });
        }
    }

    /// Puts a new value where the last event left off.
    fn add(&mut self, content: Content, position: Position) -> Id {
        let id = Id(self.tree.nodes.len());
        let Some(open) = self.open.last_mut() else {
            self.tree.nodes.push(Node { parent: None, name: Name::None, position, content, left_out: false });
            return id;
        };
        let parent = open.id;
        let mut left_out = self.tree.node(parent).left_out;
        let mut refused_key = false;
        let name = match std::mem::replace(&mut open.next, Next::Key) {
            Next::Item => {
                open.next = Next::Item;
                Name::Index(match self.tree.content(parent) {
                    Content::List(items) | Content::Mapping(items) => items.len(),
                    Content::Scalar { .. } => 0,
                })
            }
            Next::Value(key, key_position) => Name::Key(key, key_position),
            Next::Nothing => {
                left_out = true;
                Name::None
            }
            // A list or a mapping where a key should be.
            Next::Key => {
                open.next = Next::Nothing;
                left_out = true;
                refused_key = true;
                Name::None
            }
        };
        let is_placed = !matches!(name, Name::None);
        self.tree.nodes.push(Node { parent: Some(parent), name, position, content, left_out });
        if is_placed
            && let Some(Node { content: Content::List(items) | Content::Mapping(items), .. }) =
                self.tree.nodes.get_mut(parent.0)
        {
            items.push(id);
        }
        if refused_key {
            self.problems.push(self.tree.problem(id, "must have keys that are plain text"));
        }
        id
    }

    /// Leaves `id` out because of `problem`.
    fn refuse(&mut self, id: Id, problem: Problem) {
        self.tree.leave_out(id);
        self.problems.push(problem);
    }
}

fn position_of(marker: &Marker) -> Position {
    (marker.line(), marker.col() + 1)
}
