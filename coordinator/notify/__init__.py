"""Sending notices: webhooks, Slack, e-mail, and the courier that tries until they have arrived."""
