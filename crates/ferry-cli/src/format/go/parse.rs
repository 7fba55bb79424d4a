//! From tokens to a tree.

use std::collections::HashMap;

use super::ast::{Command, Control, Expr, ExprKind, Node, Number, Pipe, Tree};
use super::funcs;
use super::lex::{self, Kind, Token};

/// Deepest nesting of parentheses and control structures, so that no input exhausts the stack.
const MAX_DEPTH: usize = 100;

/// Parses `source`, whose template is called `name`.
///
/// # Errors
/// Go's text.
pub fn parse(name: &str, source: &str) -> Result<HashMap<String, Tree>, String> {
    let tokens = lex::tokens(source);
    let mut parser = Parser {
        name: name.to_owned(),
        tokens,
        at: 0,
        variables: vec!["$".to_owned()],
        ranges: 0,
        depth: 0,
        action_line: 0,
        trees: HashMap::new(),
    };
    let main = parser.top()?;
    parser.trees.insert(name.to_owned(), main);
    Ok(parser.trees)
}

struct Parser {
    name: String,
    tokens: Vec<Token>,
    at: usize,
    variables: Vec<String>,
    ranges: usize,
    depth: usize,
    action_line: usize,
    trees: HashMap<String, Tree>,
}

type Parsed<T> = Result<T, String>;

/// How a list of nodes ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    End,
    Else,
}

impl Stop {
    fn shown(self) -> &'static str {
        match self {
            Self::End => "{{end}}",
            Self::Else => "{{else}}",
        }
    }
}

enum Item {
    Node(Node),
    Stop(Stop),
}

impl Parser {
    fn peek(&self) -> &Token {
        // The last token is the end or an error, and stays.
        self.tokens.get(self.at).or(self.tokens.last()).unwrap_or(&EOF)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at = (self.at + 1).min(self.tokens.len());
        token
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.at += 1;
        }
    }

    fn next_word(&mut self) -> Token {
        self.skip_space();
        self.next()
    }

    fn error<T>(&self, message: impl std::fmt::Display) -> Parsed<T> {
        // The line is that of the token read last.
        let last = self.at.saturating_sub(1).min(self.tokens.len().saturating_sub(1));
        let line = self.tokens.get(last).map_or(1, |t| t.line);
        Err(format!("template: {}:{line}: {message}", self.name))
    }

    fn unexpected<T>(&self, token: &Token, context: &str) -> Parsed<T> {
        if token.kind == Kind::Error {
            let mut extra = String::new();
            if self.action_line != 0 && self.action_line != token.line {
                let whose = if token.text.ends_with(" action") { "" } else { " in action" };
                extra = format!("{whose} started at {}:{}", self.name, self.action_line);
            }
            return self.error(format!("{}{extra}", token.text));
        }
        self.error(format!("unexpected {} in {context}", token.shown()))
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Parsed<Token> {
        let token = self.next_word();
        if token.kind == kind { Ok(token) } else { self.unexpected(&token, context) }
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= MAX_DEPTH {
            return self.error("max expression depth exceeded");
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn top(&mut self) -> Parsed<Tree> {
        let mut tree = Tree::new();
        while self.peek().kind != Kind::Eof {
            if self.peek().kind == Kind::LeftDelim {
                let begin = self.at;
                self.next();
                if self.next_word().kind == Kind::Define {
                    self.definition()?;
                    continue;
                }
                self.at = begin;
            }
            match self.text_or_action()? {
                Item::Node(node) => tree.push(node),
                Item::Stop(stop) => return self.error(format!("unexpected {}", stop.shown())),
            }
        }
        Ok(tree)
    }

    fn definition(&mut self) -> Parsed<()> {
        let context = "define clause";
        let token = self.next_word();
        let name = self.template_name(&token, context)?;
        self.expect(Kind::RightDelim, context)?;
        let tree = self.separate_body(context)?;
        self.trees.insert(name, tree);
        Ok(())
    }

    /// The body of a template inside another; it has its own variables.
    fn separate_body(&mut self, context: &str) -> Parsed<Tree> {
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let ranges = std::mem::take(&mut self.ranges);
        let (tree, stop) = self.list()?;
        self.variables = variables;
        self.ranges = ranges;
        if stop != Stop::End {
            return self.error(format!("unexpected {} in {context}", stop.shown()));
        }
        Ok(tree)
    }

    fn list(&mut self) -> Parsed<(Tree, Stop)> {
        self.deeper(|p| {
            let mut tree = Tree::new();
            loop {
                p.skip_space();
                if p.peek().kind == Kind::Eof {
                    p.next();
                    return p.error("unexpected EOF");
                }
                match p.text_or_action()? {
                    Item::Node(node) => tree.push(node),
                    Item::Stop(stop) => return Ok((tree, stop)),
                }
            }
        })
    }

    fn text_or_action(&mut self) -> Parsed<Item> {
        let token = self.next_word();
        match token.kind {
            Kind::Text => Ok(Item::Node(Node::Text(token.text))),
            Kind::LeftDelim => {
                self.action_line = token.line;
                let item = self.action()?;
                self.action_line = 0;
                Ok(item)
            }
            _ => self.unexpected(&token, "input"),
        }
    }

    fn action(&mut self) -> Parsed<Item> {
        self.skip_space();
        let begin = self.at;
        let token = self.next();
        let node = match token.kind {
            Kind::Block => self.block()?,
            Kind::Break => self.leave(Node::Break, "break")?,
            Kind::Continue => self.leave(Node::Continue, "continue")?,
            Kind::Else => {
                self.skip_space();
                if !matches!(self.peek().kind, Kind::If | Kind::With) {
                    self.expect(Kind::RightDelim, "else")?;
                }
                return Ok(Item::Stop(Stop::Else));
            }
            Kind::End => {
                self.expect(Kind::RightDelim, "end")?;
                return Ok(Item::Stop(Stop::End));
            }
            Kind::If => Node::If(self.control("if")?),
            Kind::Range => {
                let control = self.control("range")?;
                Node::Range(control.pipe.pos, control)
            }
            Kind::With => Node::With(self.control("with")?),
            Kind::Template => self.template()?,
            _ => {
                self.at = begin;
                Node::Action(self.pipeline("command", Kind::RightDelim)?)
            }
        };
        Ok(Item::Node(node))
    }

    fn leave(&mut self, node: Node, word: &str) -> Parsed<Node> {
        let token = self.next_word();
        if token.kind != Kind::RightDelim {
            return self.unexpected(&token, &format!("{{{{{word}}}}}"));
        }
        if self.ranges == 0 {
            return self.error(format!("{{{{{word}}}}} outside {{{{range}}}}"));
        }
        Ok(node)
    }

    fn block(&mut self) -> Parsed<Node> {
        let context = "block clause";
        let token = self.next_word();
        let name = self.template_name(&token, context)?;
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        let tree = self.separate_body(context)?;
        self.trees.insert(name.clone(), tree);
        Ok(Node::Template { pos: token.pos, name, pipe: Some(pipe) })
    }

    fn template(&mut self) -> Parsed<Node> {
        let context = "template clause";
        let token = self.next_word();
        let name = self.template_name(&token, context)?;
        self.skip_space();
        let pipe = if self.peek().kind == Kind::RightDelim {
            self.next();
            None
        } else {
            Some(self.pipeline(context, Kind::RightDelim)?)
        };
        Ok(Node::Template { pos: token.pos, name, pipe })
    }

    fn template_name(&mut self, token: &Token, context: &str) -> Parsed<String> {
        match token.kind {
            Kind::String | Kind::RawString => self.unquoted(&token.text),
            _ => self.unexpected(token, context),
        }
    }

    fn unquoted(&self, text: &str) -> Parsed<String> {
        match unquote(text) {
            Some(value) => Ok(value),
            None => self.error("invalid syntax"),
        }
    }

    fn control(&mut self, context: &str) -> Parsed<Control> {
        self.deeper(|p| p.control_inside(context))
    }

    fn control_inside(&mut self, context: &str) -> Parsed<Control> {
        let mark = self.variables.len();
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        if context == "range" {
            self.ranges += 1;
        }
        let (list, stop) = self.list()?;
        if context == "range" {
            self.ranges -= 1;
        }
        let mut otherwise = None;
        if stop == Stop::Else {
            let chained = match (context, self.peek().kind) {
                ("if", Kind::If) => Some("if"),
                ("with", Kind::With) => Some("with"),
                _ => None,
            };
            if let Some(word) = chained {
                self.next();
                let inner = self.control(word)?;
                otherwise = Some(vec![if word == "if" { Node::If(inner) } else { Node::With(inner) }]);
            } else {
                let (list, stop) = self.list()?;
                if stop != Stop::End {
                    return self.error(format!("expected end; found {}", stop.shown()));
                }
                otherwise = Some(list);
            }
        }
        self.variables.truncate(mark);
        Ok(Control { pipe, list, otherwise })
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Parsed<Pipe> {
        self.skip_space();
        let mut pipe =
            Pipe { pos: self.peek().pos, declared: Vec::new(), assigns: false, commands: Vec::new() };
        self.declarations(&mut pipe, context)?;
        loop {
            self.skip_space();
            let begin = self.at;
            let token = self.next();
            match token.kind {
                kind if kind == end => break,
                Kind::Bool
                | Kind::CharConstant
                | Kind::Complex
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    self.at = begin;
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => return self.unexpected(&token, context),
            }
        }
        if pipe.commands.is_empty() {
            return self.error(format!("missing value for {context}"));
        }
        for (i, command) in pipe.commands.iter().enumerate().skip(1) {
            let constant = matches!(
                command.words.first().map(|w| &w.kind),
                Some(
                    ExprKind::Bool(_)
                        | ExprKind::Dot
                        | ExprKind::Nil
                        | ExprKind::Number(_)
                        | ExprKind::Text(..)
                )
            );
            if constant {
                return self.error(format!("non executable command in pipeline stage {}", i + 1));
            }
        }
        Ok(pipe)
    }

    fn declarations(&mut self, pipe: &mut Pipe, context: &str) -> Parsed<()> {
        loop {
            self.skip_space();
            if self.peek().kind != Kind::Variable {
                return Ok(());
            }
            let begin = self.at;
            let variable = self.next();
            self.skip_space();
            let next = self.peek().clone();
            match next.kind {
                Kind::Assign | Kind::Declare => {
                    pipe.assigns = next.kind == Kind::Assign;
                    self.next();
                    pipe.declared.push(variable.text.clone());
                    self.variables.push(variable.text);
                    return Ok(());
                }
                Kind::Char if next.text == "," => {
                    self.next();
                    pipe.declared.push(variable.text.clone());
                    self.variables.push(variable.text);
                    if context == "range" && pipe.declared.len() < 2 {
                        self.skip_space();
                        match self.peek().kind {
                            Kind::Variable | Kind::RightDelim | Kind::RightParen => continue,
                            _ => return self.error("range can only initialize variables"),
                        }
                    }
                    return self.error(format!("too many declarations in {context}"));
                }
                _ => {
                    self.at = begin;
                    return Ok(());
                }
            }
        }
    }

    fn command(&mut self) -> Parsed<Command> {
        self.skip_space();
        let mut command = Command { pos: self.peek().pos, words: Vec::new() };
        loop {
            self.skip_space();
            if let Some(word) = self.operand()? {
                command.words.push(word);
            }
            let begin = self.at;
            let token = self.next();
            match token.kind {
                Kind::Space => continue,
                Kind::RightDelim | Kind::RightParen => self.at = begin,
                Kind::Pipe => {}
                _ => return self.unexpected(&token, "operand"),
            }
            break;
        }
        if command.words.is_empty() { self.error("empty command") } else { Ok(command) }
    }

    fn operand(&mut self) -> Parsed<Option<Expr>> {
        let Some(mut word) = self.term()? else { return Ok(None) };
        if self.peek().kind != Kind::Field {
            return Ok(Some(word));
        }
        let pos = self.peek().pos;
        let mut names = Vec::new();
        while self.peek().kind == Kind::Field {
            names.push(self.next().text[1..].to_owned());
        }
        word = match word.kind {
            ExprKind::Field(mut first) => {
                first.append(&mut names);
                Expr { pos, kind: ExprKind::Field(first) }
            }
            ExprKind::Variable(name, mut first) => {
                first.append(&mut names);
                Expr { pos, kind: ExprKind::Variable(name, first) }
            }
            ExprKind::Bool(_) | ExprKind::Text(..) | ExprKind::Number(_) | ExprKind::Nil | ExprKind::Dot => {
                let shown = crate::text::quote(&word.to_string());
                return self.error(format!("unexpected . after term {shown}"));
            }
            _ => Expr { pos, kind: ExprKind::Chain(Box::new(word), names) },
        };
        Ok(Some(word))
    }

    fn term(&mut self) -> Parsed<Option<Expr>> {
        self.skip_space();
        let begin = self.at;
        let token = self.next();
        let kind = match token.kind {
            Kind::Identifier => {
                if !funcs::exists(&token.text) {
                    let name = crate::text::quote(&token.text);
                    return self.error(format!("function {name} not defined"));
                }
                ExprKind::Identifier(token.text)
            }
            Kind::Dot => ExprKind::Dot,
            Kind::Nil => ExprKind::Nil,
            Kind::Variable => {
                if !self.variables.contains(&token.text) {
                    let name = crate::text::quote(&token.text);
                    return self.error(format!("undefined variable {name}"));
                }
                ExprKind::Variable(token.text, Vec::new())
            }
            Kind::Field => ExprKind::Field(vec![token.text[1..].to_owned()]),
            Kind::Bool => ExprKind::Bool(token.text == "true"),
            Kind::CharConstant | Kind::Complex | Kind::Number => match number(&token) {
                Ok(number) => ExprKind::Number(number),
                Err(message) => return self.error(message),
            },
            Kind::LeftParen => {
                let pipe = self.deeper(|p| p.pipeline("parenthesized pipeline", Kind::RightParen))?;
                ExprKind::Pipe(pipe)
            }
            Kind::String | Kind::RawString => {
                let value = self.unquoted(&token.text)?;
                ExprKind::Text(token.text, value)
            }
            _ => {
                self.at = begin;
                return Ok(None);
            }
        };
        Ok(Some(Expr { pos: token.pos, kind }))
    }
}

static EOF: Token = Token { kind: Kind::Eof, pos: 0, text: String::new(), line: 1 };

fn number(token: &Token) -> Result<Number, String> {
    let text = token.text.clone();
    if token.kind == Kind::CharConstant {
        let value = unquote(&text).filter(|v| v.chars().count() == 1);
        let Some(c) = value.and_then(|v| v.chars().next()) else {
            return Err(format!("malformed character constant: {text}"));
        };
        let code = c as u32;
        return Ok(Number { text, int: Some(i64::from(code)), float: Some(f64::from(code)) });
    }
    let illegal = || Err(format!("illegal number syntax: {}", crate::text::quote(&text)));
    if token.kind == Kind::Complex || text.ends_with('i') {
        return illegal();
    }
    let (mut int, uint) = integers(&text);
    let mut float = int.map(|i| i as f64).or(uint.map(|u| u as f64));
    if float.is_none() {
        let plain = text.replace('_', "");
        let Ok(value) = plain.parse::<f64>() else { return illegal() };
        if !text.contains(['.', 'e', 'E', 'p', 'P']) {
            return Err(format!("integer overflow: {}", crate::text::quote(&text)));
        }
        float = Some(value);
        if value.fract() == 0.0 && value.abs() < 9.0e18 {
            int = Some(value as i64);
        }
    }
    Ok(Number { text, int, float })
}

/// The value as signed and unsigned integer, with Go's prefixes and underscores.
fn integers(text: &str) -> (Option<i64>, Option<u64>) {
    let (negative, digits) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, body) = if let Some(hex) = lower.strip_prefix("0x") {
        (16, hex)
    } else if let Some(octal) = lower.strip_prefix("0o") {
        (8, octal)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        (2, binary)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    let plain = body.replace('_', "");
    let Ok(value) = u64::from_str_radix(&plain, radix) else { return (None, None) };
    let signed = if negative { 0_i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() };
    (signed, (!negative && !text.starts_with('+')).then_some(value))
}

/// The value of a Go string or character literal.
fn unquote(text: &str) -> Option<String> {
    let quote = text.chars().next()?;
    let inner = text.get(1..text.len().checked_sub(1)?)?;
    if quote == '`' {
        return Some(inner.replace('\r', ""));
    }
    let mut bytes: Vec<u8> = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    let push = |bytes: &mut Vec<u8>, c: char| bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    while let Some(c) = chars.next() {
        if c != '\\' {
            push(&mut bytes, c);
            continue;
        }
        let digits = |chars: &mut std::str::Chars<'_>, first: &str, count: usize, radix: u32| {
            let mut word = first.to_owned();
            for _ in 0..count {
                word.push(chars.next()?);
            }
            u32::from_str_radix(&word, radix).ok()
        };
        match chars.next()? {
            'a' => bytes.push(7),
            'b' => bytes.push(8),
            'f' => bytes.push(12),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(11),
            '\\' => bytes.push(b'\\'),
            c if c == quote => push(&mut bytes, c),
            'x' => bytes.push(u8::try_from(digits(&mut chars, "", 2, 16)?).ok()?),
            'u' => push(&mut bytes, char::from_u32(digits(&mut chars, "", 4, 16)?)?),
            'U' => push(&mut bytes, char::from_u32(digits(&mut chars, "", 8, 16)?)?),
            c @ '0'..='7' => {
                bytes.push(u8::try_from(digits(&mut chars, &c.to_string(), 2, 8)?).ok()?);
            }
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
