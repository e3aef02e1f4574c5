"""TensorFlow functions that are replaced while the attacked network is traced.

The replacements are equal in value and differ in speed or in their second derivatives.
"""
