"""ResNet in plain numpy, float64, with torchvision's names written out; random weights for it."""
import numpy as np

BLOCKS = {'resnet18': (2, 2, 2, 2), 'resnet34': (3, 4, 6, 3), 'resnet50': (3, 4, 6, 3), 'resnet101': (3, 4, 23, 3),
          'resnet152': (3, 8, 36, 3)}


def torchvision_shapes(blocks, width=64, basic=False):
    """Name and shape of every value in torchvision's ResNet without fc."""
    shapes = {}

    def conv(name, out_channels, in_channels, kernel):
        shapes[name + '.weight'] = (out_channels, in_channels, kernel, kernel)

    def norm(name, channels):
        for kind in ('weight', 'bias', 'running_mean', 'running_var'):
            shapes[f'{name}.{kind}'] = (channels,)
    conv('conv1', width, 3, 7)
    norm('bn1', width)
    before = width
    for stage, number in enumerate(blocks, 1):
        planes = width * 2 ** (stage - 1)
        after = planes if basic else 4 * planes
        for block in range(number):
            prefix = f'layer{stage}.{block}.'
            parts = ((planes, before, 3), (planes, planes, 3)) if basic else (
                (planes, before, 1), (planes, planes, 3), (after, planes, 1))
            for i, (out_channels, in_channels, kernel) in enumerate(parts, 1):
                conv(f'{prefix}conv{i}', out_channels, in_channels, kernel)
                norm(f'{prefix}bn{i}', out_channels)
            if block == 0 and (stage > 1 or not basic):
                conv(prefix + 'downsample.0', after, before, 1)
                norm(prefix + 'downsample.1', after)
            before = after
    return shapes


def to_mindspore(name, basic=False):
    """The name of a value of torchvision's in MindSpore's model zoo."""
    parent, kind = name.rsplit('.', 1)
    is_norm = parent.split('.')[-1].startswith('bn') or parent.endswith('downsample.1')
    if is_norm:
        kind = {'weight': 'gamma', 'bias': 'beta',
                'running_mean': 'moving_mean', 'running_var': 'moving_variance'}[kind]
    if basic and parent.startswith('layer') and parent.split('.')[-1] in ('bn1', 'bn2'):
        parent += 'd'
    return parent.replace('downsample', 'down_sample_layer') + '.' + kind


def random_weights(blocks, seed=0, **options):
    """Float32 values under torchvision's names with activations of order 1 and every BatchNorm term in play."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in torchvision_shapes(blocks, **options).items():
        if len(shape) == 4:
            value = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        elif name.endswith('running_var'):
            value = rng.uniform(0.5, 2, shape)
        elif name.endswith('.weight'):
            value = rng.uniform(0.3, 0.8, shape)
        else:
            value = rng.normal(0, 0.3, shape)
        weights[name] = value.astype(np.float32)
    return weights


def pad(x, kernel, stride, padding, fill=0.0):
    widths = []
    for n in x.shape[2:]:
        if padding == 'same':
            total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
            widths.append((total // 2, total - total // 2))
        else:
            widths.append((kernel // 2, kernel // 2))
    return np.pad(x, [(0, 0), (0, 0)] + widths, constant_values=fill)


def windows(x, kernel, stride, padding, fill=0.0):
    """For every offset (i, j) within the kernel, the padded input at that offset of every window."""
    x = pad(x, kernel, stride, padding, fill)
    high, wide = ((n - kernel) // stride + 1 for n in x.shape[2:])
    for i in range(kernel):
        for j in range(kernel):
            yield i, j, x[:, :, i:i + stride * high:stride, j:j + stride * wide:stride]


def numpy_map(w, images, blocks, padding, eps, last_stride=2, stem_relu=True, norm=None):
    """The map of the last stage; basic blocks are told from the weights.

    norm: function (x, name of the BatchNorm) -> x in place of BatchNorm.
    """
    w = {name: value.astype(np.float64) for name, value in w.items()}

    def conv(x, name, stride=1):
        kernel = w[name + '.weight'].shape[-1]
        return sum(np.einsum('oc,nchw->nohw', w[name + '.weight'][:, :, i, j], part, optimize=True)
                   for i, j, part in windows(x, kernel, stride, padding))

    def batch_norm(x, name):
        gamma, beta, mean, variance = (w[f'{name}.{kind}'][:, None, None]
                                       for kind in ('weight', 'bias', 'running_mean', 'running_var'))
        return (x - mean) / np.sqrt(variance + eps) * gamma + beta
    norm = norm or batch_norm
    x = norm(conv(images.astype(np.float64), 'conv1', 2), 'bn1')
    if stem_relu:
        x = np.maximum(x, 0)
    x = np.max([part for _, _, part in windows(x, 3, 2, padding, -np.inf)], axis=0)
    basic = 'layer1.0.conv3.weight' not in w
    for stage, stride in enumerate((1, 2, 2, last_stride), 1):
        for block in range(blocks[stage - 1]):
            name, step = f'layer{stage}.{block}', stride if block == 0 else 1
            if basic:
                y = np.maximum(norm(conv(x, name + '.conv1', step), name + '.bn1'), 0)
                y = norm(conv(y, name + '.conv2'), name + '.bn2')
            else:
                y = np.maximum(norm(conv(x, name + '.conv1'), name + '.bn1'), 0)
                y = np.maximum(norm(conv(y, name + '.conv2', step), name + '.bn2'), 0)
                y = norm(conv(y, name + '.conv3'), name + '.bn3')
            changes = name + '.downsample.0.weight' in w
            short = norm(conv(x, name + '.downsample.0', step), name + '.downsample.1') if changes else x
            x = np.maximum(y + short, 0)
    return x


def numpy_resnet(*args, **options):
    """The map, averaged: (N, C)."""
    return numpy_map(*args, **options).mean((2, 3))


def images_of(height, width, n=2):
    return np.random.default_rng(5).normal(0, 1, (n, 3, height, width)).astype(np.float32)


def assert_close(out, expected):
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
