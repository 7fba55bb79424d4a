//! From a template's text to tokens.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Error,
    Bool,
    Char,
    CharConstant,
    Complex,
    Assign,
    Declare,
    Eof,
    Field,
    Identifier,
    LeftDelim,
    LeftParen,
    Number,
    Pipe,
    RawString,
    RightDelim,
    RightParen,
    Space,
    String,
    Text,
    Variable,
    Dot,
    Nil,
    Block,
    Break,
    Continue,
    Define,
    Else,
    End,
    If,
    Range,
    Template,
    With,
}

/// A token with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    /// Byte offset in the text.
    pub pos: usize,
    pub text: String,
    /// Line, counted from one.
    pub line: usize,
}

impl Token {
    /// The token as error messages name it.
    pub fn shown(&self) -> String {
        use Kind as K;
        match self.kind {
            K::Eof => "EOF".to_owned(),
            K::Error => self.text.clone(),
            K::Dot
            | K::Nil
            | K::Block
            | K::Break
            | K::Continue
            | K::Define
            | K::Else
            | K::End
            | K::If
            | K::Range
            | K::Template
            | K::With => format!("<{}>", self.text),
            _ if self.text.chars().count() > 10 => {
                let head: String = self.text.chars().take(10).collect();
                format!("{}...", crate::text::quote(&head))
            }
            _ => crate::text::quote(&self.text),
        }
    }
}

const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

fn keyword(word: &str) -> Option<Kind> {
    Some(match word {
        "block" => Kind::Block,
        "break" => Kind::Break,
        "continue" => Kind::Continue,
        "define" => Kind::Define,
        "else" => Kind::Else,
        "end" => Kind::End,
        "if" => Kind::If,
        "nil" => Kind::Nil,
        "range" => Kind::Range,
        "template" => Kind::Template,
        "with" => Kind::With,
        _ => return None,
    })
}

/// All tokens of `text`; the last one is the end or an error.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { text, pos: 0, line: 1, out: Vec::new(), parens: 0 };
    lexer.run();
    lexer.out
}

struct Lexer<'a> {
    text: &'a str,
    pos: usize,
    line: usize,
    out: Vec<Token>,
    parens: usize,
}

/// Nothing more can be read: an error token has been emitted.
struct Stop;

type Step = Result<(), Stop>;

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    /// Emits what lies between `start` and here; it begins on the current line.
    fn emit(&mut self, kind: Kind, start: usize) {
        let text = self.text[start..self.pos].to_owned();
        let lines = text.matches('\n').count();
        self.out.push(Token { kind, pos: start, text, line: self.line });
        self.line += lines;
    }

    fn fail(&mut self, start: usize, message: impl Into<String>) -> Step {
        self.out.push(Token { kind: Kind::Error, pos: start, text: message.into(), line: self.line });
        Err(Stop)
    }

    fn run(&mut self) {
        while let Some(open) = self.rest().find("{{") {
            let start = self.pos;
            let after = self.pos + open + 2;
            let trims = trims_left(&self.text[after..]);
            let before = &self.text[start..start + open];
            let kept = if trims { before.trim_end_matches(SPACES) } else { before };
            if !kept.is_empty() {
                self.pos = start + kept.len();
                self.emit(Kind::Text, start);
                self.line += before[kept.len()..].matches('\n').count();
            } else {
                self.line += before.matches('\n').count();
            }
            self.pos = after;
            let outcome = self.action(start + open, trims);
            if outcome.is_err() {
                return;
            }
        }
        if !self.rest().is_empty() {
            let start = self.pos;
            self.pos = self.text.len();
            self.emit(Kind::Text, start);
        }
        self.out.push(Token { kind: Kind::Eof, pos: self.pos, text: String::new(), line: self.line });
    }

    /// Everything behind an opening delimiter up to and with the closing one.
    fn action(&mut self, open: usize, trims: bool) -> Step {
        let marker = if trims { 2 } else { 0 };
        if self.rest()[marker..].starts_with("/*") {
            self.pos += marker;
            return self.comment();
        }
        let line = self.line;
        self.out.push(Token { kind: Kind::LeftDelim, pos: open, text: "{{".to_owned(), line });
        // The space behind a trim marker belongs to it.
        self.pos += marker;
        self.parens = 0;
        loop {
            if let Some(trims) = at_close(self.rest()) {
                if self.parens > 0 {
                    return self.fail(self.pos, "unclosed left paren");
                }
                self.close(trims);
                return Ok(());
            }
            self.item()?;
        }
    }

    fn close(&mut self, trims: bool) {
        if trims {
            self.pos += 2;
        }
        let start = self.pos;
        self.pos += 2;
        self.emit(Kind::RightDelim, start);
        if trims {
            let rest = self.rest();
            let skipped = rest.len() - rest.trim_start_matches(SPACES).len();
            self.line += rest[..skipped].matches('\n').count();
            self.pos += skipped;
        }
    }

    fn comment(&mut self) -> Step {
        let start = self.pos;
        let Some(end) = self.rest()[2..].find("*/") else { return self.fail(start, "unclosed comment") };
        self.pos += end + 4;
        let Some(trims) = at_close(self.rest()) else {
            return self.fail(start, "comment ends before closing delimiter");
        };
        self.line += self.text[start..self.pos].matches('\n').count();
        self.pos += if trims { 4 } else { 2 };
        if trims {
            let rest = self.rest();
            let skipped = rest.len() - rest.trim_start_matches(SPACES).len();
            self.line += rest[..skipped].matches('\n').count();
            self.pos += skipped;
        }
        Ok(())
    }

    fn item(&mut self) -> Step {
        let start = self.pos;
        let Some(c) = self.bump() else { return self.fail(start, "unclosed action") };
        match c {
            c if SPACES.contains(&c) => {
                self.pos = start;
                self.space();
            }
            '=' => self.emit(Kind::Assign, start),
            ':' => {
                if self.bump() != Some('=') {
                    return self.fail(start, "expected :=");
                }
                self.emit(Kind::Declare, start);
            }
            '|' => self.emit(Kind::Pipe, start),
            '"' => return self.quoted(start, '"', Kind::String, "unterminated quoted string"),
            '\'' => return self.quoted(start, '\'', Kind::CharConstant, "unterminated character constant"),
            '`' => {
                let Some(end) = self.rest().find('`') else {
                    return self.fail(start, "unterminated raw quoted string");
                };
                self.pos += end + 1;
                self.emit(Kind::RawString, start);
            }
            '$' => return self.name(start, Kind::Variable),
            '.' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => return self.name(start, Kind::Field),
            c if c == '.' || c == '+' || c == '-' || c.is_ascii_digit() => {
                self.pos = start;
                return self.number(start);
            }
            c if is_word(c) => {
                self.pos = start;
                return self.identifier(start);
            }
            '(' => {
                self.parens += 1;
                self.emit(Kind::LeftParen, start);
            }
            ')' => {
                if self.parens == 0 {
                    return self.fail(start, "unexpected right paren");
                }
                self.parens -= 1;
                self.emit(Kind::RightParen, start);
            }
            c if c.is_ascii_graphic() => self.emit(Kind::Char, start),
            c => return self.fail(start, format!("unrecognized character in action: {}", code_point(c))),
        }
        Ok(())
    }

    /// A run of blanks; the last one may belong to a trim marker.
    fn space(&mut self) {
        let start = self.pos;
        let rest = self.rest();
        let mut length = rest.len() - rest.trim_start_matches(SPACES).len();
        if rest[length..].starts_with("-}}") {
            length -= 1;
            if length == 0 {
                return;
            }
        }
        self.pos += length;
        self.emit(Kind::Space, start);
    }

    fn quoted(&mut self, start: usize, quote: char, kind: Kind, complaint: &str) -> Step {
        loop {
            match self.bump() {
                Some('\\') => {
                    if matches!(self.bump(), None | Some('\n')) {
                        return self.fail(start, complaint);
                    }
                }
                None | Some('\n') => return self.fail(start, complaint),
                Some(c) if c == quote => {
                    self.emit(kind, start);
                    return Ok(());
                }
                Some(_) => {}
            }
        }
    }

    /// `.Field`, `$variable`, or the bare `.` and `$`.
    fn name(&mut self, start: usize, kind: Kind) -> Step {
        if self.at_terminator() {
            self.emit(if kind == Kind::Variable { Kind::Variable } else { Kind::Dot }, start);
            return Ok(());
        }
        while self.peek().is_some_and(is_word) {
            self.bump();
        }
        if !self.at_terminator() {
            let bad = self.peek().unwrap_or('\0');
            return self.fail(start, format!("bad character {}", code_point(bad)));
        }
        self.emit(kind, start);
        Ok(())
    }

    fn identifier(&mut self, start: usize) -> Step {
        while self.peek().is_some_and(is_word) {
            self.bump();
        }
        if !self.at_terminator() {
            let bad = self.peek().unwrap_or('\0');
            return self.fail(start, format!("bad character {}", code_point(bad)));
        }
        let word = &self.text[start..self.pos];
        let kind = match word {
            "true" | "false" => Kind::Bool,
            word => keyword(word).unwrap_or(Kind::Identifier),
        };
        self.emit(kind, start);
        Ok(())
    }

    fn at_terminator(&self) -> bool {
        match self.peek() {
            None => true,
            Some(c) if SPACES.contains(&c) => true,
            Some('.' | ',' | '|' | ':' | ')' | '(') => true,
            Some(_) => self.rest().starts_with("}}"),
        }
    }

    fn number(&mut self, start: usize) -> Step {
        let mut good = self.scan_number();
        let mut kind = Kind::Number;
        if good && self.peek().is_some_and(|c| c == '+' || c == '-') {
            good = self.scan_number() && self.text[..self.pos].ends_with('i');
            kind = Kind::Complex;
        }
        if !good {
            let text = crate::text::quote(&self.text[start..self.pos]);
            return self.fail(start, format!("bad number syntax: {text}"));
        }
        self.emit(kind, start);
        Ok(())
    }

    fn accept(&mut self, set: &str) -> bool {
        let good = self.peek().is_some_and(|c| set.contains(c));
        if good {
            self.bump();
        }
        good
    }

    fn accept_run(&mut self, set: &str) {
        while self.accept(set) {}
    }

    fn scan_number(&mut self) -> bool {
        const DECIMAL: &str = "0123456789_";
        const HEX: &str = "0123456789abcdefABCDEF_";
        self.accept("+-");
        let mut digits = DECIMAL;
        if self.accept("0") {
            if self.accept("xX") {
                digits = HEX;
            } else if self.accept("oO") {
                digits = "01234567_";
            } else if self.accept("bB") {
                digits = "01_";
            }
        }
        self.accept_run(digits);
        if self.accept(".") {
            self.accept_run(digits);
        }
        let exponent = if digits == DECIMAL {
            self.accept("eE")
        } else if digits == HEX {
            self.accept("pP")
        } else {
            false
        };
        if exponent {
            self.accept("+-");
            self.accept_run(DECIMAL);
        }
        self.accept("i");
        if self.peek().is_some_and(is_word) {
            self.bump();
            return false;
        }
        true
    }
}

/// Whether what follows an opening delimiter is a trim marker: a minus and a blank.
fn trims_left(rest: &str) -> bool {
    rest.strip_prefix('-').is_some_and(|r| r.starts_with(SPACES))
}

/// Whether a closing delimiter is here, and whether it trims.
fn at_close(rest: &str) -> Option<bool> {
    if rest.starts_with("}}") {
        return Some(false);
    }
    let mut chars = rest.chars();
    let blank = chars.next().is_some_and(|c| SPACES.contains(&c));
    (blank && chars.as_str().starts_with("-}}")).then_some(true)
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// `U+0021 '!'`.
fn code_point(c: char) -> String {
    if c.is_control() { format!("U+{:04X}", c as u32) } else { format!("U+{:04X} '{c}'", c as u32) }
}
