//! Runs a parsed template.

use std::collections::HashMap;
use std::rc::Rc;

use super::Missing;
use super::ast::{Command, Control, Expr, ExprKind, Node, Number, Pipe, Tree};
use super::funcs::{self, Param};
use super::print;
use super::types::Type;
use super::value::Value;
use crate::text::quote;

/// Deepest nesting of templates that call each other.
const MAX_DEPTH: usize = 200;
/// Largest output: a template that loops must not eat the machine.
const MAX_OUTPUT: usize = 256 << 20;

/// Runs the main template.
///
/// # Errors
/// Go's text.
pub fn execute(
    name: &str,
    trees: &HashMap<String, Tree>,
    source: &str,
    data: &Value,
    missing: Missing,
    header: bool,
) -> Result<String, String> {
    let mut state = State {
        trees,
        source,
        missing,
        header,
        file: name,
        name: name.to_owned(),
        variables: vec![("$".to_owned(), data.clone())],
        depth: 0,
        at: (0, String::new()),
        out: String::new(),
    };
    let Some(main) = trees.get(name) else { return Ok(String::new()) };
    match state.walk_all(main, data) {
        Ok(_) => Ok(state.out),
        Err(message) => Err(message),
    }
}

struct State<'a> {
    trees: &'a HashMap<String, Tree>,
    source: &'a str,
    file: &'a str,
    missing: Missing,
    header: bool,
    name: String,
    variables: Vec<(String, Value)>,
    depth: usize,
    /// Place and text of what is being evaluated, for messages.
    at: (usize, String),
    out: String,
}

/// How a walk went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

type Outcome<T> = Result<T, String>;

impl State<'_> {
    fn error<T>(&self, message: impl std::fmt::Display) -> Outcome<T> {
        let (pos, context) = &self.at;
        let before = &self.source[..(*pos).min(self.source.len())];
        let line = before.matches('\n').count() + 1;
        // Go counts columns from the last newline, and without one from the beginning.
        let column = before.rfind('\n').map_or(before.len(), |at| before.len() - at - 1);
        Err(format!(
            "template: {}:{line}:{column}: executing {} at <{context}>: {message}",
            self.file,
            quote(&self.name)
        ))
    }

    fn look_at(&mut self, pos: usize, node: &impl std::fmt::Display) {
        self.at = (pos, node.to_string());
    }

    fn walk_all(&mut self, tree: &Tree, dot: &Value) -> Outcome<Flow> {
        for node in tree {
            match self.walk(node, dot)? {
                Flow::On => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::On)
    }

    fn walk(&mut self, node: &Node, dot: &Value) -> Outcome<Flow> {
        if self.out.len() > MAX_OUTPUT {
            return self.error("the output is too large");
        }
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipe) => {
                self.look_at(pipe.pos, pipe);
                let value = self.pipe(pipe, dot)?;
                if pipe.declared.is_empty() {
                    self.look_at(pipe.pos, &Action(pipe));
                    let text = print::shown(&value);
                    self.out.push_str(&text);
                }
            }
            Node::If(control) | Node::With(control) => return self.choose(node, control, dot),
            Node::Range(pos, control) => return self.range(*pos, control, dot),
            Node::Template { pos, name, pipe } => self.template(*pos, name, pipe.as_ref(), dot)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn choose(&mut self, node: &Node, control: &Control, dot: &Value) -> Outcome<Flow> {
        let mark = self.variables.len();
        let value = self.pipe(&control.pipe, dot)?;
        let flow = if value.truth() {
            let inner = if matches!(node, Node::With(_)) { &value } else { dot };
            self.walk_all(&control.list, inner)
        } else if let Some(otherwise) = &control.otherwise {
            self.walk_all(otherwise, dot)
        } else {
            Ok(Flow::On)
        };
        self.variables.truncate(mark);
        flow
    }

    fn range(&mut self, pos: usize, control: &Control, dot: &Value) -> Outcome<Flow> {
        let outer = self.variables.len();
        self.at = (pos, format!("range {}", control.pipe));
        let value = self.pipe(&control.pipe, dot)?;
        let (value, _) = value.follow();
        let pairs: Vec<(Value, Value)> = match value {
            Value::Int(_) | Value::Uint(_) if control.pipe.declared.len() > 1 => {
                let shown = print::operand(value);
                return self.error(format!("can't use {shown} to iterate over more than one variable"));
            }
            Value::Int(n) => (0..*n).map(|i| (Value::Missing, Value::Int(i))).collect(),
            Value::Uint(n) => (0..*n).map(|i| (Value::Missing, Value::Uint(i))).collect(),
            Value::List(list) => (0..).map(Value::Int).zip(list.items.iter().cloned()).collect(),
            Value::Map(map) => {
                map.items.iter().map(|(k, v)| (Value::Text(Rc::clone(k)), v.clone())).collect()
            }
            Value::Missing | Value::Null => Vec::new(),
            other => {
                let shown = print::operand(other);
                return self.error(format!("range can't iterate over {shown}"));
            }
        };
        let mark = self.variables.len();
        for (index, element) in &pairs {
            let declared = &control.pipe.declared;
            if control.pipe.assigns {
                let values: &[&Value] = if declared.len() > 1 { &[index, element] } else { &[element] };
                for (name, value) in declared.iter().zip(values) {
                    self.assign(name, value)?;
                }
            } else {
                // The pipeline has pushed its variables; the first of two is the index.
                let values: &[&Value] = if declared.len() > 1 { &[index, element] } else { &[element] };
                let first = mark.saturating_sub(declared.len());
                for (at, value) in values.iter().take(declared.len()).enumerate() {
                    if let Some(slot) = self.variables.get_mut(first + at) {
                        slot.1 = (*value).clone();
                    }
                }
            }
            let flow = self.walk_all(&control.list, element)?;
            self.variables.truncate(mark);
            if flow == Flow::Break {
                break;
            }
        }
        if pairs.is_empty()
            && let Some(otherwise) = &control.otherwise
        {
            let flow = self.walk_all(otherwise, dot)?;
            self.variables.truncate(outer);
            return Ok(flow);
        }
        self.variables.truncate(outer);
        Ok(Flow::On)
    }

    fn template(&mut self, pos: usize, name: &str, pipe: Option<&Pipe>, dot: &Value) -> Outcome<()> {
        let argument = pipe.map(|p| format!(" {p}")).unwrap_or_default();
        self.at = (pos, format!("{{{{template {}{argument}}}}}", quote(name)));
        let Some(tree) = self.trees.get(name) else {
            return self.error(format!("template {} not defined", quote(name)));
        };
        if self.depth == MAX_DEPTH {
            return self.error(format!("exceeded maximum template depth ({MAX_DEPTH})"));
        }
        let dot = match pipe {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => Value::Missing,
        };
        let variables = std::mem::replace(&mut self.variables, vec![("$".to_owned(), dot.clone())]);
        let outer = std::mem::replace(&mut self.name, name.to_owned());
        self.depth += 1;
        self.walk_all(tree, &dot)?;
        self.depth -= 1;
        self.name = outer;
        self.variables = variables;
        Ok(())
    }

    fn assign(&mut self, name: &str, value: &Value) -> Outcome<()> {
        match self.variables.iter_mut().rev().find(|(n, _)| n == name) {
            Some(slot) => slot.1 = value.clone(),
            None => return self.error(format!("undefined variable: {name}")),
        }
        Ok(())
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Outcome<Value> {
        self.look_at(pipe.pos, pipe);
        let mut value: Option<Value> = None;
        for command in &pipe.commands {
            let next = self.command(command, dot, value.take())?;
            // A pipeline looks into what has no type of its own; nil in there is nothing.
            value = Some(if matches!(next, Value::Null) { Value::Missing } else { next });
        }
        let value = value.unwrap_or(Value::Missing);
        for name in &pipe.declared {
            if pipe.assigns {
                self.assign(name, &value)?;
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    fn command(&mut self, command: &Command, dot: &Value, last: Option<Value>) -> Outcome<Value> {
        let Some((first, args)) = command.words.split_first() else { return Ok(Value::Missing) };
        match &first.kind {
            ExprKind::Identifier(name) => {
                self.look_at(first.pos, first);
                self.function(name, (command.pos, command), args, dot, last)
            }
            ExprKind::Field(_) | ExprKind::Variable(..) | ExprKind::Chain(..) => {
                self.reference(first, args, dot, last)
            }
            ExprKind::Pipe(pipe) => {
                self.no_function(first, args, last.as_ref())?;
                self.pipe(pipe, dot)
            }
            ExprKind::Nil => {
                self.look_at(first.pos, first);
                self.no_function(first, args, last.as_ref())?;
                self.error("nil is not a command")
            }
            _ => {
                self.look_at(first.pos, first);
                self.no_function(first, args, last.as_ref())?;
                self.constant(first, dot)
            }
        }
    }

    fn no_function(&self, first: &Expr, args: &[Expr], last: Option<&Value>) -> Outcome<()> {
        if args.is_empty() && last.is_none() {
            return Ok(());
        }
        let shown = match &first.kind {
            ExprKind::Pipe(pipe) => pipe.to_string(),
            _ => first.to_string(),
        };
        self.error(format!("can't give argument to non-function {shown}"))
    }

    fn constant(&mut self, word: &Expr, dot: &Value) -> Outcome<Value> {
        match &word.kind {
            ExprKind::Dot => Ok(dot.clone()),
            ExprKind::Bool(b) => Ok(Value::Bool(*b)),
            ExprKind::Text(_, text) => Ok(Value::text(text)),
            ExprKind::Number(number) => self.number(number),
            _ => self.error(format!("can't evaluate command {}", quote(&word.to_string()))),
        }
    }

    /// A number where no type is asked for: its spelling decides.
    fn number(&self, number: &Number) -> Outcome<Value> {
        let text = &number.text;
        let hexadecimal = text.starts_with("0x") || text.starts_with("0X");
        let real = !hexadecimal && !text.starts_with('\'') && text.contains(['.', 'e', 'E', 'p', 'P']);
        match (real, number.float, number.int) {
            (true, Some(float), _) => Ok(Value::Float(float)),
            (_, _, Some(int)) => Ok(Value::Int(int)),
            _ => self.error(format!("{text} overflows int")),
        }
    }

    /// `.A.B`, `$x.A`, `(…).A`, with arguments for the last of them.
    fn reference(&mut self, word: &Expr, args: &[Expr], dot: &Value, last: Option<Value>) -> Outcome<Value> {
        self.look_at(word.pos, word);
        let (receiver, names) = match &word.kind {
            ExprKind::Field(names) => (dot.clone(), names),
            ExprKind::Variable(name, names) => {
                let found = self.variables.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.clone());
                let Some(value) = found else { return self.error(format!("undefined variable: {name}")) };
                if names.is_empty() {
                    self.no_function(word, args, last.as_ref())?;
                    return Ok(value);
                }
                (value, names)
            }
            ExprKind::Chain(inner, names) => {
                if matches!(inner.kind, ExprKind::Nil) {
                    return self.error(format!("indirection through explicit nil in {word}"));
                }
                (self.argument(inner, Param::Any, dot)?, names)
            }
            _ => return Ok(Value::Missing),
        };
        let Some((final_name, path)) = names.split_last() else { return Ok(receiver) };
        let mut receiver = receiver;
        let mut loose = false;
        for name in path {
            let next = self.field(&receiver, loose, name, word, &[], dot, None)?;
            loose = is_loose(&receiver);
            receiver = next;
        }
        self.field(&receiver, loose, final_name, word, args, dot, last)
    }

    /// One step of a chain. What came out of a map of anything is `loose`: messages call its type so.
    #[expect(clippy::too_many_arguments, reason = "they are what a step of a chain consists of")]
    fn field(
        &mut self,
        receiver: &Value,
        loose: bool,
        name: &str,
        word: &Expr,
        args: &[Expr],
        dot: &Value,
        last: Option<Value>,
    ) -> Outcome<Value> {
        let of = if loose { Type::Any.name() } else { receiver.type_name() };
        let (inner, nil) = receiver.follow();
        let has_args = !args.is_empty() || last.is_some();
        match inner {
            Value::Missing => {
                if self.missing == Missing::Error {
                    return self.error(format!("nil data; no entry for key {}", quote(name)));
                }
                return Ok(Value::Missing);
            }
            Value::Null => return self.error(format!("nil pointer evaluating {of}.{name}")),
            Value::Object(object) => {
                if let Some(wanted) = object.arity(name) {
                    let given = args.len() + usize::from(last.is_some());
                    if given != wanted {
                        return self
                            .error(format!("wrong number of args for {name}: want {wanted} got {given}"));
                    }
                    let mut texts = Vec::new();
                    for arg in args {
                        let value = self.argument(arg, Param::Text, dot)?;
                        texts.push(print::operand(&value));
                    }
                    if let Some(last) = last {
                        let fitted = funcs::fit(last, Param::Text).or_else(|e| self.error(e))?;
                        texts.push(print::operand(&fitted));
                    }
                    return Ok(object.call(name, &texts));
                }
            }
            Value::Struct(s) => {
                if let Some(value) = s.field(name) {
                    if has_args {
                        return self.error(format!("{name} has arguments but cannot be invoked as function"));
                    }
                    return Ok(value.clone());
                }
            }
            Value::Map(map) => {
                if has_args {
                    return self.error(format!("{name} is not a method but has arguments"));
                }
                return match map.items.get(name) {
                    Some(value) => Ok(value.clone()),
                    None if self.missing == Missing::Error => {
                        self.look_at(word.pos, word);
                        self.error(format!("map has no entry for key {}", quote(name)))
                    }
                    None => Ok(Value::Missing),
                };
            }
            Value::Pointer(to, _) if nil => {
                let known = match &**to {
                    Type::Struct(of) => of.fields.iter().any(|f| f.name == name),
                    _ => true,
                };
                if known {
                    return self.error(format!("nil pointer evaluating {of}.{name}"));
                }
            }
            _ => {}
        }
        self.error(format!("can't evaluate field {name} in type {of}"))
    }

    fn function(
        &mut self,
        name: &str,
        whole: (usize, &dyn std::fmt::Display),
        args: &[Expr],
        dot: &Value,
        last: Option<Value>,
    ) -> Outcome<Value> {
        let Some(signature) = funcs::signature(name) else {
            return self.error(format!("{} is not a defined function", quote(name)));
        };
        let given = args.len() + usize::from(last.is_some());
        let fixed = signature.fixed.len();
        if signature.variadic.is_some() && given < fixed {
            return self
                .error(format!("wrong number of args for {name}: want at least {fixed} got {}", args.len()));
        }
        if signature.variadic.is_none() && given != fixed {
            return self.error(format!("wrong number of args for {name}: want {fixed} got {given}"));
        }
        let param = |at: usize| signature.fixed.get(at).copied().or(signature.variadic).unwrap_or(Param::Any);
        if name == "and" || name == "or" {
            return self.logic(name == "or", args, dot, last);
        }
        let mut values = Vec::with_capacity(given);
        for (at, arg) in args.iter().enumerate() {
            values.push(self.argument(arg, param(at), dot)?);
        }
        if let Some(last) = last {
            let fitted = funcs::fit(last, param(args.len())).or_else(|e| self.error(e))?;
            values.push(fitted);
        }
        match funcs::call(name, &values, self.header) {
            Ok(value) => Ok(value),
            Err(message) => {
                let callee =
                    args.first().map_or_else(|| print::operand(&Value::Missing), ToString::to_string);
                let message = message.replace('\u{1}', &callee);
                self.at = (whole.0, whole.1.to_string());
                self.error(format!("error calling {name}: {message}"))
            }
        }
    }

    /// `and` and `or` stop at the first argument that decides.
    fn logic(&mut self, or: bool, args: &[Expr], dot: &Value, last: Option<Value>) -> Outcome<Value> {
        let mut value = Value::Missing;
        for arg in args {
            value = self.argument(arg, Param::Raw, dot)?;
            if value.truth() == or {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    fn argument(&mut self, word: &Expr, param: Param, dot: &Value) -> Outcome<Value> {
        match &word.kind {
            ExprKind::Pipe(pipe) => self.look_at(word.pos, pipe),
            _ => self.look_at(word.pos, word),
        }
        let value = match &word.kind {
            ExprKind::Dot => dot.clone(),
            ExprKind::Nil => {
                if matches!(param, Param::Text | Param::Int) {
                    return self.error(format!("cannot assign nil to {}", param.name()));
                }
                return Ok(Value::Missing);
            }
            ExprKind::Field(_) | ExprKind::Variable(..) | ExprKind::Chain(..) => {
                self.reference(word, &[], dot, None)?
            }
            ExprKind::Pipe(pipe) => self.pipe(pipe, dot)?,
            ExprKind::Identifier(name) => self.function(name, (word.pos, word), &[], dot, None)?,
            ExprKind::Bool(_) | ExprKind::Number(_) | ExprKind::Text(..) => {
                return self.literal(word, param, dot);
            }
        };
        funcs::fit(value, param).or_else(|e| self.error(e))
    }

    /// A literal takes the type that is asked for, if it can.
    fn literal(&mut self, word: &Expr, param: Param, dot: &Value) -> Outcome<Value> {
        match (param, &word.kind) {
            (Param::Any | Param::Raw, _) => self.constant(word, dot),
            (Param::Text, ExprKind::Text(_, text)) => Ok(Value::text(text)),
            (Param::Text, _) => self.error(format!("expected string; found {word}")),
            (Param::Int, ExprKind::Number(Number { int: Some(int), .. })) => Ok(Value::Int(*int)),
            (Param::Int, _) => self.error(format!("expected integer; found {word}")),
            (Param::Texts, _) => self.error(format!("can't handle {word} for arg of type []string")),
        }
    }
}

/// Whether what is taken out of the value has no type of its own.
fn is_loose(value: &Value) -> bool {
    matches!(value.follow().0, Value::Map(map) if matches!(*map.of, Type::Any))
}

/// An action as Go quotes it.
struct Action<'a>(&'a Pipe);

impl std::fmt::Display for Action<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{{{{{}}}}}", self.0)
    }
}
