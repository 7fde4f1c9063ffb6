"""Fifteen kinds of generated parts and materials, to test models of many classes."""
