"""What replaces functions of TensorFlow and properties of Keras while the attacked network is traced.

The replacements are equal in value and differ in speed or in their second derivatives.
"""
