//! The parsed form of a template. Everything prints as Go prints it, because error messages quote it.

use std::fmt;

/// One template's content.
pub type Tree = Vec<Node>;

/// A part of a template.
#[derive(Debug, Clone)]
pub enum Node {
    Text(String),
    Action(Pipe),
    If(Control),
    With(Control),
    Range(usize, Control),
    Template { pos: usize, name: String, pipe: Option<Pipe> },
    Break,
    Continue,
}

/// What `if`, `with` and `range` have in common.
#[derive(Debug, Clone)]
pub struct Control {
    pub pipe: Pipe,
    pub list: Tree,
    pub otherwise: Option<Tree>,
}

/// `$a, $b := command | command`.
#[derive(Debug, Clone)]
pub struct Pipe {
    pub pos: usize,
    pub declared: Vec<String>,
    /// `=` rather than `:=`.
    pub assigns: bool,
    pub commands: Vec<Command>,
}

/// A word and its arguments.
#[derive(Debug, Clone)]
pub struct Command {
    pub pos: usize,
    pub words: Vec<Expr>,
}

/// A word.
#[derive(Debug, Clone)]
pub struct Expr {
    pub pos: usize,
    pub kind: ExprKind,
}

/// What a word can be.
#[derive(Debug, Clone)]
pub enum ExprKind {
    Identifier(String),
    Dot,
    Nil,
    Bool(bool),
    Number(Number),
    /// As written, and its value.
    Text(String, String),
    Field(Vec<String>),
    /// Name with its `$`, and fields.
    Variable(String, Vec<String>),
    Chain(Box<Expr>, Vec<String>),
    Pipe(Pipe),
}

/// A number and what it can be taken for.
#[derive(Debug, Clone)]
pub struct Number {
    pub text: String,
    pub int: Option<i64>,
    pub float: Option<f64>,
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.declared.is_empty() {
            let sign = if self.assigns { "=" } else { ":=" };
            write!(f, "{} {sign} ", self.declared.join(", "))?;
        }
        for (i, command) in self.commands.iter().enumerate() {
            if i > 0 {
                f.write_str(" | ")?;
            }
            write!(f, "{command}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, word) in self.words.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            match &word.kind {
                ExprKind::Pipe(pipe) => write!(f, "({pipe})")?,
                _ => write!(f, "{word}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = |f: &mut fmt::Formatter<'_>, names: &[String]| {
            names.iter().try_for_each(|name| write!(f, ".{name}"))
        };
        match &self.kind {
            ExprKind::Identifier(name) => f.write_str(name),
            ExprKind::Dot => f.write_str("."),
            ExprKind::Nil => f.write_str("nil"),
            ExprKind::Bool(b) => write!(f, "{b}"),
            ExprKind::Number(number) => f.write_str(&number.text),
            ExprKind::Text(quoted, _) => f.write_str(quoted),
            ExprKind::Field(names) => fields(f, names),
            ExprKind::Variable(name, names) => {
                f.write_str(name)?;
                fields(f, names)
            }
            ExprKind::Chain(inner, names) => {
                match &inner.kind {
                    ExprKind::Pipe(pipe) => write!(f, "({pipe})")?,
                    _ => write!(f, "{inner}")?,
                }
                fields(f, names)
            }
            ExprKind::Pipe(pipe) => write!(f, "{pipe}"),
        }
    }
}
