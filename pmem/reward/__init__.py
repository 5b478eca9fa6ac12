"""A reply and a question to a score: multiple choice by the strict parser, open-ended by judges."""
