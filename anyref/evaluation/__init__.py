"""Scores of videos against their references and prompts: cases, metrics, suites, intervals, reports.

The path: `cases` (what was asked), `metrics` (one file each), `engine` (every metric of a suite over a folder of videos), `rows` (what it
writes), `suites` (rows to parts and a total), `statistics` (intervals and comparisons), `published` (the papers' rows).
"""
